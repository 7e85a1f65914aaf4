//! Every question, asked of journals that say what they like, and every answer written down.

use fnscope::fold::Profile;
use fnscope::model::{Timestamp, Window};
use fnscope::query::{
    CostBy, CostRow, Event, Merger, Phase, PhaseFilter, Preempted, Selection, View, by_module, by_phase,
    by_thread, cold_starts, cost, coverage, diff, functions, functions_by_host, hosts, instances, judge,
    shortest_names, side, stack_faults, stacks, summary, throttled, top,
};
use fnscope::render::{self, escape, flame, folded, json, stack_faults as faulty};
use fnscope::store::JournalContents;
use serde::Serialize;

/// Merges `journals` and asks everything about `window`.
pub fn ask(journals: impl IntoIterator<Item = JournalContents>, window: Window) {
    let mut merger = Merger::new(window);
    journals.into_iter().for_each(|journal| merger.add(journal));
    let view = View::new(merger.finish());
    let all = view.select(None, &[]).expect("everything is there");

    let rows = functions(&view, &all);
    assert!(coverage(&view, &all).is_none_or(|share| share.is_finite() && share >= 0.0));
    let samples: u64 = rows.iter().map(|row| row.samples).sum();
    one_line_each(&render::functions(&rows, Some(80)), rows.len());
    as_json(&json::functions(&rows));

    let lives = instances(&view, &all);
    assert_eq!(lives.iter().map(|row| row.samples).sum::<u64>(), samples, "by instance as by function");
    one_line_each(&render::instances(&lives, None), lives.len());
    for row in &lives {
        assert_eq!(
            row.phases.iter().map(|phase| phase.samples).sum::<u64>(),
            row.samples,
            "by phase as in all"
        );
        assert_plain(&render::instance(row));
    }
    as_json(&json::instances(&lives));

    let faults = stack_faults(&view, &all, PhaseFilter::All);
    assert_eq!(faults.samples, samples, "as many as `ls` says");
    let counted = rows.iter().map(|row| row.quality.complete).sum::<u64>();
    assert_eq!(faults.quality.complete, counted, "as many as `ls` says");
    assert_plain(&faulty::text("f", &faults));
    let _ = faulty::json(&faults).to_string();

    let mut by_phase = 0;
    for filter in
        [PhaseFilter::All, PhaseFilter::Function].into_iter().chain(Phase::ALL.map(PhaseFilter::Only))
    {
        let found = stacks(&view, &all, filter);
        let total = found.profile.total();
        let left_out: u64 = found.left_out.iter().map(|(_, count)| count).sum();
        assert_eq!(total.samples + left_out, samples, "{filter}");
        if let PhaseFilter::Only(_) = filter {
            by_phase += total.samples;
        } else {
            written(&found.profile);
        }
    }
    assert_eq!(by_phase, samples, "phases share out all samples");

    compared(&view, &all);
    accounted(&view, &all, samples);

    for name in shortest_names(view.functions()) {
        let selector = name.parse().expect("a name that is shown can be typed");
        let chosen = view.select(Some(&selector), &[]).expect("a name that is shown means one function");
        let _ = functions(&view, &chosen);
    }
    let _ = view.select(None, &["c".into()]);
}

/// The same of waits, each kind of them: those that are counted and those that are left out are all there are.
pub fn ask_waits(journals: impl IntoIterator<Item = JournalContents> + Clone, window: Window) {
    let count = |preempted| {
        let mut merger = Merger::counting(window, Event::OffCpu(preempted), false);
        journals.clone().into_iter().for_each(|journal| merger.add(journal));
        let view = View::new(merger.finish());
        let all = view.select(None, &[]).expect("everything is there");
        let found = stacks(&view, &all, PhaseFilter::All);
        let mut text = Vec::new();
        folded::write(&found.profile, &mut text).expect("memory takes it");
        let frames = top(&found.profile);
        assert!(frames.iter().all(|row| row.own_share <= 1.0 && row.total_share <= 1.0));
        one_line_each(&render::frames(&frames, Some(60)), frames.len());
        let _ = json::frames(&frames).to_string();
        let whole = side(&view, &all, PhaseFilter::All);
        let rows = diff(&whole, &whole);
        assert!(rows.iter().all(|row| !row.is_significant()));
        let waits = found.profile.total().samples;
        assert_eq!(by_phase(&view, &all).iter().map(|row| row.weight.samples).sum::<u64>(), waits);
        waits
    };
    assert_eq!(count(Preempted::Exclude) + count(Preempted::Only), count(Preempted::Include));
}

/// Cold starts, and everything against everything else.
fn compared(view: &View, all: &Selection) {
    let starts = cold_starts(view, all);
    let counted: u64 = functions(view, all).iter().map(|row| row.cold_starts).sum();
    assert_eq!(starts.len() as u64, counted, "as many as `ls` says");
    one_line_each(&render::cold::starts(&starts, Some(80)), starts.len());
    let _ = render::cold::json(&starts, &summary(&starts), None).to_string();

    let [whole, warm] =
        [PhaseFilter::All, PhaseFilter::Only(Phase::Warm)].map(|phases| side(view, all, phases));
    for (a, b) in [(&whole, &warm), (&warm, &whole), (&whole, &whole)] {
        let rows = diff(a, b);
        one_line_each(&render::diff::table_of(&rows, render::diff::Words::COLD, Some(80)), rows.len());
        let _ = render::diff::rows_json(&rows).to_string();
        for text in
            ["delta(share(*)) > 1pt", "self(a*) > 1%", "delta(total) > 1%", "delta(cpu_per_start) > 1%"]
        {
            let verdict = judge(&text.parse().expect("a condition"), a, b);
            assert!(!std::ptr::eq(a, b) || text.starts_with("self") || !verdict.held(), "{verdict:?}");
            let _ = render::diff::verdict_line(&verdict);
        }
    }
}

/// Hosts, groups, throttling and cost: what is told in several ways is the same.
fn accounted(view: &View, all: &Selection, samples: u64) {
    let rows = hosts(view, all);
    assert_eq!(rows.iter().map(|row| row.samples).sum::<u64>(), samples, "by host as in all");
    one_line_each(&render::hosts::hosts(&rows, Some(80)), rows.len());
    as_json(&render::hosts::json(&rows));
    let by_host = functions_by_host(view, all);
    assert_eq!(by_host.iter().map(|(_, row)| row.samples).sum::<u64>(), samples);
    as_json(&json::functions_by_host(&by_host));

    let threads = by_thread(view, all, PhaseFilter::All);
    assert_eq!(threads.iter().map(|row| row.weight.samples).sum::<u64>(), samples, "by thread as in all");
    assert_eq!(by_phase(view, all).iter().map(|row| row.weight.samples).sum::<u64>(), samples);
    let modules = by_module(&stacks(view, all, PhaseFilter::All).profile);
    one_line_each(&render::groups::modules(&modules, None), modules.len());
    one_line_each(&render::groups::threads(&threads, Some(60)), threads.len());

    let held = throttled(view, all);
    one_line_each(&render::throttled::throttled(&held, Some(80)), held.len());
    let sum = |by: &[CostBy]| {
        let rows = cost(view, all, by);
        one_line_each(&render::cost::cost(&rows, by, None, Some(80)), rows.len());
        rows.iter().map(|row: &CostRow| row.cpu_us).fold(0, u64::saturating_add)
    };
    assert_eq!(sum(&[CostBy::Function]), sum(&[CostBy::Revision, CostBy::Host]));
    let _ = sum(&[CostBy::Day]);
}

/// Writes `profile` as text and as its frames.
pub fn written(profile: &Profile) {
    let total = profile.total();
    let mut text = Vec::new();
    folded::write(profile, &mut text).expect("memory takes it");
    let text = String::from_utf8(text).expect("folded text is UTF-8");
    let counts =
        text.lines().map(|line| line.rsplit_once(' ').expect("a count").1.parse::<u64>().expect("a number"));
    assert_eq!(counts.sum::<u64>(), total.samples, "{text:?}");
    let frames = top(profile);
    one_line_each(&render::frames(&frames, Some(60)), frames.len());
    let _ = json::frames(&frames).to_string();
}

/// Draws `profile`, leaves first where `reverse`.
pub fn drawn(profile: &Profile, reverse: bool) {
    let samples = profile.total().samples;
    let title = profile.folded().into_keys().collect();
    let style = flame::Style { title, reverse, ..flame::Style::default() };
    let mut svg = Vec::new();
    if let Err(error) = flame::write(profile, &style, &mut svg) {
        assert_eq!(samples, 0, "{error}");
        return;
    }
    let svg = String::from_utf8(svg).expect("an SVG is UTF-8");
    assert!(svg.contains(&format!("total_samples=\"{samples}\"")), "{:?}", style.title);
    assert!(!svg.contains(|c: char| c.is_control() && !c.is_whitespace()), "{:?}", style.title);
}

/// A window whose ends lie in the middle of what the targets make up.
pub const MIDDLE: Window = Window { from: Timestamp(-500), to: Timestamp(2_000_000) };

fn one_line_each(table: &str, rows: usize) {
    assert_plain(table);
    assert!(table.lines().count() <= rows + 1, "{table}");
}

/// Writes `answer` for a program.
fn as_json(answer: &impl Serialize) {
    let mut text = Vec::new();
    escape::write_json(answer, &mut text).expect("memory takes it");
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    assert_plain(&text);
    let _: serde_json::Value = serde_json::from_str(&text).expect("JSON");
}

fn assert_plain(text: &str) {
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}
