//! The deck that faults are dealt from, and whether every kind of them was done. Pure.
//!
//! A soak that left out a fault without a word would hold all the easier. So what was asked for and not done breaks it:
//! a host that cannot do a fault is told so, and the fault left out by name.

use std::time::Duration;

use super::faults::{HOUR_TURN, KINDS, Kind};
use super::judge::Verdict;
use super::ledger::Fault;
use super::options::{Options, steps_the_clock};

/// Faults take half as long, one with another.
const TAKES: Duration = Duration::from_secs(7);

/// The faults that `options` ask for.
pub fn asked(options: &Options) -> Vec<Kind> {
    let stays = |kind: &Kind| kind.name != HOUR_TURN || steps_the_clock(options);
    let left_out = |kind: &Kind| options.without.iter().any(|name| name == kind.name);
    KINDS.into_iter().filter(|kind| stays(kind) && !left_out(kind)).collect()
}

/// A whole deck of `kinds`, in order: agents are ended twice as often as anything else is done.
pub fn whole(kinds: &[Kind]) -> Vec<String> {
    let again = kinds.iter().filter(|kind| kind.ends_agent);
    kinds.iter().chain(again).map(|kind| kind.name.into()).collect()
}

/// From how many seconds on a soak deals all that `options` ask for. What ends agents is dealt in the first third alone,
/// so that a whole deck must fit into it.
fn enough_s(options: &Options) -> u64 {
    let cards = whole(&asked(options)).len() as u64;
    3 * cards * (options.between + TAKES).as_secs()
}

/// Whether all that `options` ask for was done, by `faults`; not told of a soak of fewer than [`enough_s`] seconds.
pub fn all_done(options: &Options, faults: &[Fault]) -> Verdict {
    let invariant = "every kind of fault was done that is not left out";
    let kinds = asked(options);
    let (mut missing, mut broken) = (Vec::new(), Vec::new());
    for Kind { name, .. } in &kinds {
        let tries: Vec<&Fault> = faults.iter().filter(|fault| fault.kind == *name).collect();
        if tries.iter().any(|fault| fault.done) {
            continue;
        }
        let why = match tries.last() {
            Some(fault) => format!("{} times tried and never done ({})", tries.len(), fault.note),
            None => "its turn never came: give the soak more --minutes".into(),
        };
        missing.push(*name);
        broken.push(format!("{name}: {why}; or leave it out with `--without {name}`"));
    }
    let done = kinds.len() - missing.len();
    let mut figures = format!("{done} of {} kinds", kinds.len());
    if !missing.is_empty() {
        figures = format!("{figures}, not {}", missing.join(" "));
    }
    let enough_s = enough_s(options);
    if options.seconds < enough_s {
        figures = format!("{figures}; too short to tell, which takes {enough_s} s");
        return Verdict { invariant, holds: None, figures, broken: vec![] };
    }
    Verdict::of(invariant, figures, broken)
}

#[cfg(test)]
mod tests {
    use super::super::faults::CLOCK_STEP;
    use super::*;

    fn fault(kind: &str, done: bool) -> Fault {
        let note = if done { String::new() } else { "no CPU of this host can be switched off".into() };
        Fault { kind: kind.into(), begin_ns: 0, end_ns: 1, note, done }
    }

    fn without(names: &[&str]) -> Options {
        Options { without: names.iter().map(ToString::to_string).collect(), ..Options::default() }
    }

    #[test]
    fn a_kind_that_was_not_done_breaks_a_soak_unless_it_is_left_out() {
        let but = |left_out: &[&str]| -> Vec<Fault> {
            let kinds = KINDS.iter().filter(|kind| !left_out.contains(&kind.name));
            kinds.map(|kind| fault(kind.name, true)).collect()
        };
        let clock = [CLOCK_STEP, HOUR_TURN];
        let tried = || [but(&["cpu-off"]), vec![fault("cpu-off", false), fault("cpu-off", false)]].concat();
        let both = [fault("cpu-off", false), fault("cpu-off", true)];
        for (options, faults, broken) in [
            (without(&[]), but(&[]), &[][..]),
            (without(&[]), [but(&["cpu-off"]), both.to_vec()].concat(), &[]),
            (without(&[]), tried(), &["cpu-off"]),
            (without(&["cpu-off"]), tried(), &[]),
            (without(&["cpu-off"]), but(&["cpu-off"]), &[]),
            (without(&[]), but(&["agent-kill", "freeze"]), &["agent-kill", "freeze"]),
            // Who leaves the clock alone does not go to the turn of an hour either.
            (without(&[]), but(&clock), &clock),
            (without(&[CLOCK_STEP]), but(&clock), &[]),
            (without(&[HOUR_TURN]), but(&clock), &[CLOCK_STEP]),
            (without(&[]), vec![], &KINDS.map(|kind| kind.name)),
        ] {
            let verdict = all_done(&options, &faults);
            assert_eq!(verdict.holds, Some(broken.is_empty()), "{verdict:?}");
            assert_eq!(verdict.broken.len(), broken.len(), "{verdict:?}");
            for (name, line) in broken.iter().zip(&verdict.broken) {
                let mend = format!("`--without {name}`");
                assert!(verdict.figures.contains(name) && line.starts_with(name) && line.contains(&mend));
            }
        }
        let said = all_done(&without(&[]), &tried()).broken.concat();
        assert!(said.contains("2 times tried and never done (no CPU of this host"), "{said}");
    }

    #[test]
    fn a_soak_is_judged_from_a_length_that_deals_the_whole_deck() {
        let of = |seconds: u64| all_done(&Options { seconds, ..Options::default() }, &[]);
        // A third of it is 15 cards of 8 s and 7 s.
        assert_eq!((of(674).holds, of(675).holds), (None, Some(false)));
        let verdict = of(674);
        assert!(verdict.broken.is_empty() && verdict.figures.contains("too short"), "{verdict:?}");
    }
}
