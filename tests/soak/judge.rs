//! The invariants, judged from the ledger and from what the store answers. Pure: rows in, verdicts out.
//!
//! A life is judged by what was done to the host while it lived: what was watched without a break must be whole, what a
//! documented loss touches may miss what the document says, and no more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::deck::all_done;
use super::faults::{CLOCK_STEP, HOUR_TURN};
use super::ledger::{AgentLife, Entry, Fault, Life, Reading};
use super::options::Options;
use super::trend::Slope;

/// A kill may cost what the last two seconds would have stored.
pub const KILL_COSTS_NS: u64 = 2_000_000_000;
/// An agent that is told to end has so long.
const DRAIN_MS: u64 = 5_000;
/// Shorter lives than that have too few samples to compare.
const COMPARED_US: u64 = 300_000;
/// What is stored of an account may lag behind it by a reading of the last moments.
const ACCOUNT_US: u64 = 20_000;

/// What an invariant came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Which.
    pub invariant: &'static str,
    /// Whether it holds; none where the soak was too short to tell.
    pub holds: Option<bool>,
    /// The figures.
    pub figures: String,
    /// What breaks it, the first ones.
    pub broken: Vec<String>,
}

impl Verdict {
    /// Holds unless something is `broken`.
    pub fn of(invariant: &'static str, figures: String, broken: Vec<String>) -> Verdict {
        Verdict { invariant, holds: Some(broken.is_empty()), figures, broken }
    }
}

/// What the store answers.
#[derive(Debug, Default)]
pub struct Answers {
    /// Rows of `instances`.
    pub instances: Vec<Value>,
    /// Rows of `ls`.
    pub functions: Vec<Value>,
    /// Rows of `hosts`.
    pub hosts: Vec<Value>,
    /// Folded stacks by function.
    pub folded: BTreeMap<String, String>,
    /// What could not be read: what, and whether it is the end that a kill tears off.
    pub damage: Vec<(String, bool)>,
}

/// The ledger by kinds.
#[derive(Debug, Default)]
pub struct Told {
    lives: Vec<Life>,
    agents: Vec<AgentLife>,
    faults: Vec<Fault>,
    readings: Vec<Reading>,
    losses: Vec<(u64, u64)>,
    wrong: Vec<(String, String)>,
    questions: usize,
    slowest_ms: u64,
}

impl Told {
    /// From `entries`.
    pub fn of(entries: Vec<Entry>) -> Told {
        let mut told = Told::default();
        for entry in entries {
            match entry {
                Entry::Life(life) => told.lives.push(life),
                Entry::Agent(agent) => told.agents.push(agent),
                Entry::Fault(fault) => told.faults.push(fault),
                Entry::Reading(reading) => told.readings.push(reading),
                Entry::Loss(loss) => told.losses.push((loss.at_ns, loss.lost_ms)),
                Entry::Broken(broken) => told.wrong.push((broken.invariant, broken.seen)),
                Entry::Question(question) => {
                    told.questions += 1;
                    told.slowest_ms = told.slowest_ms.max(question.took_ms);
                    if let Some(wrong) = question.wrong {
                        told.wrong.push(("answers".into(), format!("`{}`: {wrong}", question.asked)));
                    }
                }
            }
        }
        told
    }

    /// Faults, for the report.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// From when to when an agent watched, less what its kill may cost.
    fn watched(&self) -> impl Iterator<Item = (u64, u64)> {
        self.agents.iter().map(|agent| {
            let cost = if agent.how == "TERM" { 0 } else { KILL_COSTS_NS };
            (agent.begin_ns, agent.end_ns.saturating_sub(cost))
        })
    }

    /// When it lived, in seconds as the report gives those of faults.
    fn when(&self, life: &Life) -> String {
        let first = self.faults.first().map_or(0, |fault| fault.begin_ns);
        let at = |ns: u64| (ns as f64 - first as f64) / 1e9;
        format!("from {:.1} to {:.1}", at(life.begin_ns), at(life.end_ns))
    }

    /// Whether a fault of `kind` was done between `begin` and `end`, or `around` nanoseconds before or after: what was
    /// sampled of a life that just ended is still to be stored.
    fn touched(&self, kind: &str, begin: u64, end: u64, around: u64) -> bool {
        let overlaps = |fault: &&Fault| {
            fault.begin_ns <= end.saturating_add(around) && fault.end_ns.saturating_add(around) >= begin
        };
        self.faults.iter().filter(|fault| fault.done && fault.kind == kind).any(|fault| overlaps(&fault))
    }

    /// Whether the store must have it.
    fn must_be_there(&self, life: &Life) -> bool {
        const LEAST_NS: u64 = 100_000_000;
        // Docker's are asked for hundreds of milliseconds before there is a container: an agent that ended in the middle
        // may have seen none.
        const DOCKER_MAKES_NS: u64 = 900_000_000;
        // And it tells of an end after it has taken the container apart, which a busy host makes long: when its program
        // was done is what counts for an agent that began in the middle, and a guess where it was killed and told nothing.
        const DOCKER_ENDS_NS: u64 = 400_000_000;
        let seen = |(from, to): (u64, u64)| {
            let (early, late) = (to < life.end_ns, from > life.begin_ns);
            let (end_ns, unsure_ns) = match (life.runtime.as_str(), life.done_ns) {
                ("docker", _) if early => (life.end_ns, DOCKER_MAKES_NS),
                ("docker", Some(done_ns)) if late => (done_ns, 0),
                ("docker", None) if late => (life.end_ns, DOCKER_ENDS_NS),
                _ => (life.end_ns, 0),
            };
            end_ns.min(to).saturating_sub(life.begin_ns.max(from)) > LEAST_NS + unsure_ns
        };
        // A full disk costs what it refused.
        self.watched().any(seen) && !self.touched("disk-full", life.begin_ns, life.end_ns, KILL_COSTS_NS)
    }

    /// Whether nothing was done that may cost samples of it.
    fn undisturbed(&self, life: &Life) -> bool {
        let within = |(from, to): (u64, u64)| life.begin_ns >= from && life.end_ns <= to;
        let costly = ["disk-full", CLOCK_STEP, HOUR_TURN, "cpu-off"];
        let touched = |kind: &&str| self.touched(kind, life.begin_ns, life.end_ns, KILL_COSTS_NS);
        self.watched().any(within) && !costly.iter().any(touched)
    }
}

/// Every invariant, of a soak that was asked for by `options`.
pub fn judge(options: &Options, told: &Told, answers: &Answers) -> Vec<Verdict> {
    let mut all =
        vec![once(told, answers), strangers(told, answers), accounts(told, answers), coverage(told, answers)];
    all.extend([
        totals(answers),
        mixed(told, answers),
        losses(told),
        ends(told),
        log(told),
        damage(told, answers),
    ]);
    all.extend([questions(told), trend(told, "memory", |reading| reading.memory_kib as f64, "KiB")]);
    all.push(trend(told, "open files", |reading| reading.files as f64, "files"));
    all.push(all_done(options, &told.faults));
    all
}

/// The rows of each life.
fn rows<'a>(life: &Life, answers: &'a Answers) -> Vec<&'a Value> {
    let is_its = |row: &&Value| match life.runtime.as_str() {
        "docker" => row["instance"]
            .as_str()
            .is_some_and(|key| life.name.get(..12).is_some_and(|id| key.starts_with(id))),
        _ => row["instance_name"] == *life.name,
    };
    answers.instances.iter().filter(is_its).collect()
}

fn once(told: &Told, answers: &Answers) -> Verdict {
    let (mut broken, mut there, mut excused) = (Vec::new(), 0, 0);
    for life in &told.lives {
        match (rows(life, answers).len(), told.must_be_there(life)) {
            (1, _) => there += 1,
            (0, false) => excused += 1,
            (count, _) => broken
                .push(format!("{} {} ({}) is there {count} times", life.runtime, life.name, life.function)),
        }
    }
    let figures = format!(
        "{} containers: {there} once, {excused} lived where nothing could be stored",
        told.lives.len()
    );
    Verdict::of("each container that ran is in the store once", figures, broken)
}

fn strangers(told: &Told, answers: &Answers) -> Verdict {
    let known: BTreeSet<&str> = told.lives.iter().map(|life| life.name.as_str()).collect();
    let is_known = |row: &&Value| {
        let key = row["instance"].as_str().unwrap_or_default();
        let docker = told
            .lives
            .iter()
            .any(|life| life.name.len() == 64 && life.name.get(..12).is_some_and(|id| key.starts_with(id)));
        docker || row["instance_name"].as_str().is_some_and(|name| known.contains(name))
    };
    let strange: Vec<&Value> = answers.instances.iter().filter(|row| !is_known(row)).collect();
    // What a daemon started as it ended, before it told anybody the id; it may have started it twice.
    let restarts = told.faults.iter().filter(|fault| fault.done && fault.kind.starts_with("docker-")).count();
    let nameless = strange.iter().filter(|row| row["instance_name"].is_null());
    let ids = nameless.filter_map(|row| row["instance"].as_str()?.split('.').next());
    let unheard = ids.collect::<BTreeSet<&str>>().len();
    let named = strange.iter().filter(|row| !row["instance_name"].is_null() || unheard > restarts);
    let broken = named.map(|row| format!("{} {}", row["instance"], row["instance_name"])).collect();
    let figures =
        format!("{} rows; {unheard} containers that Docker began as it ended", answers.instances.len());
    Verdict::of("nothing is in the store that did not run", figures, broken)
}

/// The account of a life: what the soak read, or what the store read where no cgroup of ours was.
fn accounts(told: &Told, answers: &Answers) -> Verdict {
    let (mut broken, mut compared, mut final_ones) = (Vec::new(), 0, 0);
    for life in told.lives.iter().filter(|life| told.undisturbed(life)) {
        let [row] = rows(life, answers)[..] else { continue };
        let Some(cpu_us) = row["cpu_seconds"].as_f64().map(|seconds| (seconds * 1e6) as u64) else {
            continue;
        };
        compared += 1;
        let final_one = row["coverage_source"] == "final";
        final_ones += u64::from(final_one);
        let what = || {
            format!("{} {}: the store has {cpu_us} us ({})", life.runtime, life.name, row["coverage_source"])
        };
        if let Some(account) = life.account_us {
            let off = cpu_us.abs_diff(account);
            if cpu_us > account + ACCOUNT_US || final_one && off > ACCOUNT_US.max(account / 50) {
                broken.push(format!("{}, its cgroup {account} us", what()));
            }
        } else if let Some(own) = life.told_us.filter(|own| final_one && cpu_us + ACCOUNT_US < *own) {
            broken.push(format!("{}, the program {own} us", what()));
        }
    }
    let figures = format!("{compared} undisturbed lives compared, {final_ones} of them read to their end");
    Verdict::of("sums agree with the cgroups' accounts", figures, broken)
}

fn coverage(told: &Told, answers: &Answers) -> Verdict {
    let (mut broken, mut sampled, mut used, mut count) = (Vec::new(), 0.0, 0.0, 0);
    for life in told.lives.iter().filter(|life| told.undisturbed(life)) {
        let [row] = rows(life, answers)[..] else { continue };
        let (Some(cpu), Some(seen)) = (row["cpu_seconds"].as_f64(), row["sampled_seconds"].as_f64()) else {
            continue;
        };
        (sampled, used) = (sampled + seen, used + cpu);
        if cpu * 1e6 < COMPARED_US as f64 || row["coverage"].is_null() {
            continue;
        }
        count += 1;
        // Five standard deviations of as many samples as there should be: of a thousand lives none is off by chance.
        let samples = row["samples"].as_f64().unwrap_or(0.0) / (seen / cpu).max(0.01);
        let room = 0.1 + 5.0 / samples.max(1.0).sqrt();
        if (seen / cpu - 1.0).abs() > room {
            let what = format!("{} {}, {}", life.runtime, life.name, told.when(life));
            let lost = (&row["samples"], &row["lost"], &row["coverage_source"]);
            broken.push(format!(
                "{what}: {:.3} of {cpu:.3} s, room {room:.3}; samples, lost, account {lost:?}",
                seen / cpu
            ));
        }
    }
    let whole = sampled / used;
    if used > 5.0 && !(0.9..=1.1).contains(&whole) {
        broken.push(format!("of all together: {whole:.3}"));
    }
    let figures = format!("{sampled:.1} s sampled of {used:.1} s ({whole:.3}), {count} lives one by one");
    Verdict::of("samples cover the CPU time of what was watched undisturbed", figures, broken)
}

fn totals(answers: &Answers) -> Verdict {
    let sum = |rows: &[Value]| rows.iter().filter_map(|row| row["samples"].as_u64()).sum::<u64>();
    let folded = answers.folded.values().flat_map(|text| text.lines());
    let folded: u64 = folded.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    let all = [sum(&answers.functions), sum(&answers.instances), sum(&answers.hosts), folded];
    let figures = format!("samples by function, instance, host, stack: {all:?}");
    let same = all.iter().all(|count| *count == all[0]);
    Verdict::of("answers agree with each other", figures.clone(), if same { vec![] } else { vec![figures] })
}

fn mixed(told: &Told, answers: &Answers) -> Verdict {
    // What each of these programs calls, which no other does.
    let own =
        [("fib", "function::fibonacci"), ("shares", "function::spend_sixty"), ("deep", "function::descend")];
    let mut broken = Vec::new();
    // Of whom no runtime has told in time, its function is called by the begin of its id.
    let by_id: BTreeMap<&str, &str> =
        told.lives.iter().filter_map(|life| Some((life.name.get(..12)?, &*life.function))).collect();
    for (function, text) in &answers.folded {
        let ran = by_id.get(function.as_str()).copied().unwrap_or(function);
        for (owner, symbol) in own {
            if ran != owner && text.contains(symbol) {
                broken.push(format!("{symbol} in a profile of {function}"));
            }
        }
    }
    Verdict::of("no stack is another function's", format!("{} functions", answers.folded.len()), broken)
}

fn losses(told: &Told) -> Verdict {
    // While the disk is full nothing is stored, killed or not.
    let judged = told.losses.iter().filter(|(at, _)| !told.touched("disk-full", *at, *at, 5_000_000_000));
    let broken = judged.filter(|(_, lost_ms)| *lost_ms >= KILL_COSTS_NS / 1_000_000);
    let broken = broken.map(|(at, lost_ms)| format!("{lost_ms} ms at {at}")).collect();
    let most = told.losses.iter().map(|(_, lost_ms)| *lost_ms).max();
    Verdict::of(
        "a kill costs less than 2 s",
        format!("{} kills, at most {} ms", told.losses.len(), most.unwrap_or(0)),
        broken,
    )
}

fn ends(told: &Told) -> Verdict {
    let mut broken: Vec<String> = (told.wrong.iter())
        .filter(|(invariant, _)| invariant.starts_with("an agent"))
        .map(|(_, seen)| seen.clone())
        .collect();
    let terms = told.agents.iter().filter(|agent| agent.how == "TERM");
    let slow = terms.clone().filter(|agent| agent.drain_ms > DRAIN_MS);
    broken.extend(slow.map(|agent| format!("agent {} took {} ms to end", agent.number, agent.drain_ms)));
    let most = terms.map(|agent| agent.drain_ms).max().unwrap_or(0);
    let figures = format!("{} agents, at most {most} ms from SIGTERM to the end", told.agents.len());
    Verdict::of("an agent ends when it is told to, in 5 s, and not before", figures, broken)
}

/// Which faults explain an error in the log that holds one of these words.
const EXPLAINED: [(&str, &[&str]); 5] = [
    ("write the store", &["disk-full"]),
    ("begin a new journal", &["disk-full"]),
    ("close the journal", &["disk-full"]),
    ("No space left", &["disk-full"]),
    ("docker", &["docker-term", "docker-kill"]),
];

fn log(told: &Told) -> Verdict {
    let (mut broken, mut errors, mut warnings) = (Vec::new(), 0, BTreeMap::<&str, usize>::new());
    for agent in &told.agents {
        for line in &agent.log {
            if !line.contains(" ERROR ") && !line.contains("panicked") {
                let what = line.split_once(" WARN ").map_or(line.as_str(), |(_, what)| what);
                *warnings.entry(what.get(..60).unwrap_or(what)).or_default() += 1;
                continue;
            }
            errors += 1;
            let cause = |kind: &&str| told.touched(kind, agent.begin_ns, agent.end_ns, 0);
            let explains = |(word, kinds): &(&str, &[&str])| line.contains(word) && kinds.iter().any(cause);
            if line.contains("panicked") || !EXPLAINED.iter().any(explains) {
                broken.push(format!("agent {}: {line}", agent.number));
            }
        }
    }
    let figures = format!("{errors} errors, all of an injected fault unless named; warnings: {warnings:?}");
    Verdict::of("no panic and no error without a cause in the log", figures, broken)
}

fn damage(told: &Told, answers: &Answers) -> Verdict {
    let done = |kind: &str| told.faults.iter().filter(|fault| fault.done && fault.kind == kind).count();
    let causes = done("agent-kill") + done("disk-full") * 2;
    let mut broken: Vec<String> =
        answers.damage.iter().filter(|(_, torn)| !torn).map(|(what, _)| what.clone()).collect();
    if answers.damage.len() > causes {
        broken.push(format!("{} ends are torn, by {causes} kills and full disks", answers.damage.len()));
    }
    let figures = format!(
        "{} torn ends after {} kills and {} full disks",
        answers.damage.len(),
        done("agent-kill"),
        done("disk-full")
    );
    Verdict::of("all of the store is read, but for the ends that kills tear off", figures, broken)
}

fn questions(told: &Told) -> Verdict {
    let wrong = told.wrong.iter().filter(|(invariant, _)| invariant == "answers");
    let figures =
        format!("{} questions beside the agent, the slowest took {} ms", told.questions, told.slowest_ms);
    Verdict::of("every question has an answer", figures, wrong.map(|(_, seen)| seen.clone()).collect())
}

/// Of the agent that lived longest.
fn trend(told: &Told, what: &'static str, of: fn(&Reading) -> f64, unit: &str) -> Verdict {
    let longest = told.agents.iter().max_by_key(|agent| agent.end_ns.saturating_sub(agent.begin_ns));
    let number = longest.map_or(0, |agent| agent.number);
    let own = told.readings.iter().filter(|reading| reading.agent == number);
    let points: Vec<(f64, f64)> = own.map(|reading| (reading.at_ns as f64 / 1e9, of(reading))).collect();
    let most = told.readings.iter().map(of).fold(0.0, f64::max);
    let invariant = if what == "memory" { "memory besides the rings is flat" } else { "open files are flat" };
    match Slope::of(&points) {
        Some(slope) => {
            let figures = format!(
                "agent {number}: {:+.1} {unit}/h, 95 % interval ±{:.1}, {} readings behind the warm-up; at most {most} {unit}",
                slope.per_hour, slope.interval, slope.readings
            );
            Verdict::of(invariant, figures.clone(), if slope.rises() { vec![figures] } else { vec![] })
        }
        None => {
            let figures = format!("{} readings are too few for a slope; at most {most} {unit}", points.len());
            Verdict { invariant, holds: None, figures, broken: vec![] }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Two agents, ten seconds each, the first of which was killed; a full disk in the second's.
    fn told() -> Told {
        let agent = |number: u32, begin: u64, how: &str| AgentLife {
            number,
            begin_ns: begin * SECOND,
            end_ns: (begin + 10) * SECOND,
            how: how.into(),
            drain_ms: 40,
            log: Vec::new(),
        };
        let fault = |kind: &str, begin: u64, end: u64| Fault {
            kind: kind.into(),
            begin_ns: begin * SECOND,
            end_ns: end * SECOND,
            note: String::new(),
            done: true,
        };
        let life = |name: &str, begin: u64, end: u64| Life {
            runtime: "cgroup".into(),
            name: name.into(),
            function: "fib".into(),
            begin_ns: begin * SECOND,
            end_ns: end * SECOND,
            account_us: Some(1_000_000),
            told_us: Some(990_000),
            done_ns: None,
            killed: false,
        };
        Told {
            agents: vec![agent(1, 10, "KILL"), agent(2, 21, "TERM")],
            faults: vec![fault("agent-kill", 20, 21), fault("disk-full", 27, 29)],
            lives: vec![
                life("fib.1", 11, 13),
                life("fib.2", 19, 20),
                life("fib.3", 27, 28),
                life("fib.4", 22, 24),
                life("fib.5", 25, 26),
            ],
            losses: vec![(20 * SECOND, 700)],
            ..Told::default()
        }
    }

    fn row(name: &str, cpu: f64, samples: u64) -> Value {
        json!({"instance": format!("{name}.boot.1"), "instance_name": name, "function": "fib", "cpu_seconds": cpu,
            "sampled_seconds": samples as f64 / 199.0, "samples": samples, "coverage": 1.0, "coverage_source": "final"})
    }

    fn answers(instances: Vec<Value>) -> Answers {
        let samples: u64 = instances.iter().filter_map(|row| row["samples"].as_u64()).sum();
        let (functions, hosts) = (vec![json!({"samples": samples})], vec![json!({"samples": samples})]);
        let folded = BTreeMap::from([("fib".to_owned(), format!("main;function::fibonacci {samples}\n"))]);
        Answers { instances, functions, hosts, folded, damage: vec![("end".into(), true)] }
    }

    fn broken(told: &Told, answers: &Answers) -> Vec<&'static str> {
        // Two faults are not all that there are.
        let short = Options { seconds: 21, ..Options::default() };
        let verdicts = judge(&short, told, answers).into_iter();
        verdicts.filter(|verdict| verdict.holds == Some(false)).map(|verdict| verdict.invariant).collect()
    }

    #[test]
    fn what_a_documented_loss_explains_holds_and_nothing_else_does() {
        let whole = || vec![row("fib.1", 1.0, 199), row("fib.4", 1.0, 201)];
        assert_eq!(
            broken(&told(), &answers(whole())),
            [""; 0],
            "one lived as the agent was killed, one on a full disk, one was to be stored there"
        );
        let once = "each container that ran is in the store once";
        let accounts = "sums agree with the cgroups' accounts";
        let covered = "samples cover the CPU time of what was watched undisturbed";
        for (rows, expected) in [
            (vec![row("fib.1", 1.0, 199)], vec![once]),
            ([whole(), vec![row("fib.1", 1.0, 0)]].concat(), vec![once]),
            (
                [whole(), vec![row("fib.9", 1.0, 199)]].concat(),
                vec!["nothing is in the store that did not run"],
            ),
            (vec![row("fib.1", 1.1, 219), row("fib.4", 1.0, 199)], vec![accounts]),
            (vec![row("fib.1", 0.9, 179), row("fib.4", 1.0, 199)], vec![accounts]),
            (vec![row("fib.1", 1.0, 80), row("fib.4", 1.0, 199)], vec![covered]),
            (vec![row("fib.1", 1.0, 340), row("fib.4", 1.0, 199)], vec![covered]),
        ] {
            assert_eq!(broken(&told(), &answers(rows.clone())), expected, "{rows:#?}");
        }
    }

    #[test]
    fn when_a_program_was_done_decides_for_an_agent_that_began_late() {
        let of_docker = |done_ms: Option<u64>, told_ms: u64| Life {
            runtime: "docker".into(),
            name: "0123456789abcdef".into(),
            function: "fib".into(),
            begin_ns: 20 * SECOND,
            end_ns: 21 * SECOND + told_ms * 1_000_000,
            account_us: None,
            told_us: None,
            done_ns: done_ms.map(|ms| 21 * SECOND + ms * 1_000_000),
            killed: done_ms.is_none(),
        };
        for (done_ms, told_ms, must) in
            [(Some(90), 900, false), (Some(110), 300, true), (None, 490, false), (None, 510, true)]
        {
            assert_eq!(told().must_be_there(&of_docker(done_ms, told_ms)), must, "{done_ms:?}, {told_ms}");
        }
    }

    #[test]
    fn what_the_agent_does_wrong_is_seen() {
        let good = answers(vec![row("fib.1", 1.0, 199), row("fib.4", 1.0, 201)]);
        let with = |change: fn(&mut Told)| {
            let mut told = told();
            change(&mut told);
            broken(&told, &good)
        };
        let log = "no panic and no error without a cause in the log";
        assert_eq!(with(|told| told.agents[0].log = vec!["Z ERROR x: write the store: full".into()]), [log]);
        assert_eq!(
            with(|told| told.agents[1].log = vec!["Z ERROR x: write the store: full".into()]),
            [""; 0]
        );
        assert_eq!(with(|told| told.agents[1].log = vec!["thread 'a' panicked at b".into()]), [log]);
        assert_eq!(with(|told| told.losses = vec![(20 * SECOND, 2_100)]), ["a kill costs less than 2 s"]);
        assert_eq!(with(|told| told.agents[1].drain_ms = 5_100).len(), 1);
        assert_eq!(
            with(|told| told.wrong = vec![("answers".into(), "ls".into())]),
            ["every question has an answer"]
        );
        let leak = |told: &mut Told| {
            let reading = |n: u64| Reading {
                agent: 2,
                at_ns: n * SECOND,
                memory_kib: 9_000 + n,
                files: 40 + n % 3,
                kinds: BTreeMap::new(),
            };
            told.readings = (0..200).map(reading).collect();
        };
        assert_eq!(with(leak), ["memory besides the rings is flat"]);
    }

    #[test]
    fn a_long_soak_that_left_faults_out_is_seen() {
        let verdicts = judge(&Options::default(), &told(), &answers(vec![]));
        let faults = verdicts.iter().find(|verdict| verdict.invariant.starts_with("every kind of fault"));
        assert_eq!(faults.map(|verdict| verdict.holds), Some(Some(false)));
    }

    #[test]
    fn answers_that_disagree_are_seen() {
        let changed = |change: fn(&mut Answers)| {
            let mut all = answers(vec![row("fib.1", 1.0, 199), row("fib.4", 1.0, 201)]);
            change(&mut all);
            broken(&told(), &all)
        };
        let agree = "answers agree with each other";
        assert_eq!(changed(|all| all.functions.clear()), [agree]);
        assert_eq!(changed(|all| all.hosts.push(json!({"samples": 1}))), [agree]);
        let other = |all: &mut Answers| {
            all.folded.insert("burn".into(), "main;function::fibonacci 0\n".into());
        };
        assert_eq!(changed(other), ["no stack is another function's"]);
        let read = "all of the store is read, but for the ends that kills tear off";
        assert_eq!(changed(|all| all.damage = vec![("a checksum".into(), false)]), [read]);
    }
}
