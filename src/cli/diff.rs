//! `fnscope diff`: two sides compared, and a check that fails a build.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::ValueHint;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::args::{self, EventArg, FilterArgs, FunctionArg, PhaseArg, TopArg};
use super::{Outcome, complete, flame, open, output};
use crate::fold::Measure;
use crate::model::Window;
use crate::query::Scope;
use crate::query::{
    self, Condition, Event, PhaseFilter, Quantity, QueryError, Selection, Selector, Side, View, When,
};
use crate::render::{self, diff, escape, time};

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A and B are two revisions, or one function and what tells its sides apart: --a-since, --b-until, --a-host, --b-instance \
and the like. Options without a side are for both. With A and B alike and two --store, A is of the first and B of the \
second. Differences are in points of share; a star marks those that chance does not explain (95 %, instances counted as \
clusters). Condition: `share(F) > 10%`, `self(F) > 10%` of B; `delta(share(F)) > 2.5pt`, `delta(total) > 15%`, \
`delta(cpu_per_start) > 20%`, `delta(cpu_per_instance) > 20%` of B against A. F is a symbol or a glob (`json_*`); frames \
of one glob count together. A condition holds if the lower end of the 95 % interval is over the bar.

Examples:
  fnscope diff pi@1 pi@2                         what changed between two revisions
  fnscope diff pi --a-until 08:00 --b-since 08:00
  fnscope diff pi --a-host node-1 --b-host node-2 --svg diff.svg
  fnscope diff pi@1 pi@2 --event off-cpu         what it waits for now; shares are of the waits' time
  fnscope diff pi@1 pi@2 --fail-if 'delta(share(hash)) > 2.5pt'
  fnscope diff pi@1 pi@2 --fail-if 'delta(cpu_per_start) > 20%' --fail-if 'share(json_*) > 30%'

Exit codes: 1 if a --fail-if holds (or, without one, if nothing was found), 2 error, 64 wrong usage.")]
pub struct Args {
    #[command(flatten)]
    function: FunctionArg,
    /// The other side; A again where options tell the sides apart
    #[arg(value_name = "B", add = ArgValueCandidates::new(complete::functions))]
    b: Option<Selector>,
    /// Fail (exit code 1) if this holds; may be repeated, one is enough
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Condition>,
    /// Draw a differential flame graph: widths are B's, red grew, blue shrank
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    svg: Option<PathBuf>,
    /// What a frame's CPU time is told for
    #[arg(long, value_name = "WHAT", default_value = "instance", value_parser = ["instance", "start"])]
    per: String,
    #[command(flatten)]
    limit: TopArg,
    #[command(flatten)]
    phase: PhaseArg,
    #[command(flatten)]
    event: EventArg,
    #[command(flatten)]
    sides: SideArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Options for one side alone.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sides")]
struct SideArgs {
    /// Store of A, instead of --store
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    a_store: Vec<PathBuf>,
    /// Store of B
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    b_store: Vec<PathBuf>,
    /// A's window begins here
    #[arg(long, value_name = "TIME")]
    a_since: Option<When>,
    /// A's window ends before this
    #[arg(long, value_name = "TIME")]
    a_until: Option<When>,
    /// B's window begins here
    #[arg(long, value_name = "TIME")]
    b_since: Option<When>,
    /// B's window ends before this
    #[arg(long, value_name = "TIME")]
    b_until: Option<When>,
    /// Only this instance of A
    #[arg(long, value_name = "KEY", add = ArgValueCandidates::new(complete::instances))]
    a_instance: Vec<String>,
    /// Only this instance of B
    #[arg(long, value_name = "KEY", add = ArgValueCandidates::new(complete::instances))]
    b_instance: Vec<String>,
    /// Only this host of A
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::hosts))]
    a_host: Vec<String>,
    /// Only this host of B
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::hosts))]
    b_host: Vec<String>,
}

/// What one side is asked for.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    selector: Selector,
    stores: Vec<PathBuf>,
    since: Option<When>,
    until: Option<When>,
    instances: Vec<String>,
    hosts: Vec<String>,
}

/// Compares, draws, judges.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let [a, b] = asked(args)?;
    let window = |side: &Asked, since: &'static str, until: &'static str| {
        args::window((since, side.since), (until, side.until))
    };
    let windows = [window(&a, "A: --since", "--until")?, window(&b, "B: --since", "--until")?];
    let same = (&a.stores, a.since, a.until) == (&b.stores, b.since, b.until);
    // All instances of a function, of which the sides may mean different ones.
    let both = [a.selector.clone(), b.selector.clone()];
    let of_both = Scope::Samples(&both, &[]);
    let event = args.event.event()?;
    check_conditions(&args.fail_if, &event)?;
    let view_a = open::view_of(&a.stores, windows[0], of_both, &event)?;
    let view_b = if same { view_a } else { open::view_of(&b.stores, windows[1], of_both, &event)? };
    let judged = !args.fail_if.is_empty();
    // For a build, exit code 1 says that a condition holds and nothing else.
    let error = |side: &str, error: QueryError| match judged {
        true => anyhow!("{side}: {error}"),
        false => anyhow::Error::from(error),
    };
    let (chosen_a, side_a) = side(view_a, &a, args.phase.phase).map_err(|e| error("A", e))?;
    let (chosen_b, side_b) = side(view_b, &b, args.phase.phase).map_err(|e| error("B", e))?;
    let both = [("A", &a, view_a, &chosen_a, &side_a), ("B", &b, view_b, &chosen_b, &side_b)];
    for (name, asked, view, chosen, side) in both {
        if side.samples == 0 {
            let (function, window) = (&asked.selector, time::window(view.window()));
            let counted = open::what(&event);
            let what =
                format!("no {counted} of {name}, `{function}` in phase {}, {window}", args.phase.phase);
            let what = what + &open::elsewhere(view, chosen);
            if judged {
                bail!("{what}: nothing can be judged");
            }
            output::tell(&format!("fnscope: {what}"));
            return Ok(Outcome::Nothing);
        }
    }
    warn_of_ways((view_a, &chosen_a), (view_b, &chosen_b));
    let names = [name(&a, windows[0]), name(&b, windows[1])];
    if let Some(path) = &args.svg {
        let stacks = |view, chosen| query::stacks(view, chosen, args.phase.phase).profile;
        let title = format!("{} against {}", names[1], names[0]);
        flame::write_difference(path, &title, &stacks(view_a, &chosen_a), &stacks(view_b, &chosen_b))?;
    }
    let rows = open::patiently("comparing", || query::diff(&side_a, &side_b));
    let verdicts: Vec<query::Verdict> =
        args.fail_if.iter().map(|condition| query::judge(condition, &side_a, &side_b)).collect();
    let shown = args.limit.of(&rows, args.filter.json);
    if args.filter.json {
        output::print_json(&json!({
            "a": diff::side_json(&side_a, &names[0]),
            "b": diff::side_json(&side_b, &names[1]),
            "frames": diff::rows_json(shown),
            "conditions": diff::verdicts_json(&verdicts),
        }))?;
    } else {
        tell_sides(&names, [&side_a, &side_b]);
        let words = if args.per == "start" { diff::Words::STARTS } else { diff::Words::DIFF };
        output::print(&diff::table_of(shown, words, output::terminal_width()))?;
        output::tell_hidden(rows.len(), shown.len(), "frames");
    }
    for verdict in &verdicts {
        output::tell(&format!("fnscope: {}", escape::line(&diff::verdict_line(verdict))));
    }
    Ok(if verdicts.iter().any(query::Verdict::held) { Outcome::Nothing } else { Outcome::Done })
}

/// Time off the CPU is no CPU time: a condition on that is wrong usage there.
fn check_conditions(conditions: &[Condition], event: &Event) -> Result<(), clap::Error> {
    let on_cpu = |condition: &&Condition| matches!(condition.quantity, Quantity::CpuDelta(_));
    match conditions.iter().find(on_cpu).filter(|_| matches!(event, Event::OffCpu(_))) {
        None => Ok(()),
        Some(condition) => Err(args::wrong_usage(format!(
            "`{condition}` is about CPU time; with --event off-cpu write share(F), self(F) or a delta of them"
        ))),
    }
}

/// What each side is asked for; two that are the same are wrong usage.
fn asked(args: &Args) -> Result<[Asked; 2], clap::Error> {
    let (filter, sides) = (&args.filter, &args.sides);
    let or = |own: &Vec<String>, both: &Vec<String>| if own.is_empty() { both.clone() } else { own.clone() };
    let stores = |own: &Vec<PathBuf>| if own.is_empty() { filter.stores() } else { own.clone() };
    let mut a = Asked {
        selector: args.function.function.clone(),
        stores: stores(&sides.a_store),
        since: sides.a_since.or(filter.since),
        until: sides.a_until.or(filter.until),
        instances: or(&sides.a_instance, &filter.instance),
        hosts: or(&sides.a_host, &filter.host),
    };
    let mut b = Asked {
        selector: args.b.clone().unwrap_or_else(|| a.selector.clone()),
        stores: stores(&sides.b_store),
        since: sides.b_since.or(filter.since),
        until: sides.b_until.or(filter.until),
        instances: or(&sides.b_instance, &filter.instance),
        hosts: or(&sides.b_host, &filter.host),
    };
    if a == b {
        let [first, second] = filter.given_stores() else {
            return Err(args::wrong_usage(
                "A and B are the same; name two revisions, or tell them apart with --a-since, --b-host or the like"
                    .into(),
            ));
        };
        (a.stores, b.stores) = (vec![first.clone()], vec![second.clone()]);
    }
    Ok([a, b])
}

fn side(view: &View, asked: &Asked, phases: PhaseFilter) -> Result<(Selection, Side), QueryError> {
    let selection = view.select(Some(&asked.selector), &asked.instances)?.on_hosts(view, &asked.hosts)?;
    let side = open::patiently("adding up a side", || query::side(view, &selection, phases));
    Ok((selection, side))
}

/// A side in words: what was asked for, as far as it tells sides apart.
fn name(asked: &Asked, window: Window) -> String {
    let mut name = asked.selector.to_string();
    if window != Window::ALL {
        name += &format!(", {}", time::window(window));
    }
    for (what, values) in [("instance", &asked.instances), ("host", &asked.hosts)] {
        if !values.is_empty() {
            name += &format!(", {what} {}", values.join(" and "));
        }
    }
    let stores: Vec<String> = asked.stores.iter().map(|store| store.display().to_string()).collect();
    format!("{name} ({})", stores.join(" and "))
}

fn tell_sides(names: &[String; 2], sides: [&Side; 2]) {
    for ((letter, name), side) in ["A", "B"].into_iter().zip(names).zip(sides) {
        let cpu = time::length((side.cpu.total_us()).round() as i64);
        let waits = side.measure == Measure::Waits;
        let text = format!(
            "{letter}: {name}: {} {}, {} instances, {} cold starts, {cpu} {}",
            time::count(side.samples),
            if waits { "waits" } else { "samples" },
            time::count(side.cpu.each_us.len() as u64),
            time::count(side.starts.each_us.len() as u64),
            if waits { "off the CPU" } else { "CPU" },
        );
        output::tell(&format!("fnscope: {}", render::escape::line(&text)));
    }
}

/// Says so where the sides were not sampled in the same way.
fn warn_of_ways(a: (&View, &Selection), b: (&View, &Selection)) {
    let ways = |(view, selection): (&View, &Selection)| query::hosts(view, selection);
    let (a, b) = (ways(a), ways(b));
    let told = |rows: &[query::HostRow], of: &dyn Fn(&query::HostRow) -> Vec<String>| {
        let active = rows.iter().filter(|row| row.samples > 0);
        let mut values: Vec<String> = active.flat_map(of).collect();
        values.sort();
        values.dedup();
        values.join(", ")
    };
    type Of = dyn Fn(&query::HostRow) -> Vec<String>;
    let rate: &Of = &|row| row.hz.iter().map(|hz| format!("{hz} Hz")).collect();
    let (event, kernel): (&Of, &Of) = (&|row| row.events.clone(), &|row| row.kernels.clone());
    for (what, of) in [("rate", rate), ("event", event), ("kernel", kernel)] {
        let (of_a, of_b) = (told(&a, of), told(&b, of));
        if of_a != of_b {
            let text = format!("the sides differ in {what}: A {of_a}, B {of_b}");
            output::tell(&format!("fnscope: warning: {}", escape::line(&text)));
        }
    }
}
