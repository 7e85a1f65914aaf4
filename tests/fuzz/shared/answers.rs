//! Every question, asked of journals that say what they like, and every answer written down.

use fnscope::fold::Profile;
use fnscope::model::{Timestamp, Window};
use fnscope::query::{
    Merger, Phase, PhaseFilter, View, coverage, functions, instances, shortest, stacks, top,
};
use fnscope::render::{self, flame, folded, json};
use fnscope::store::JournalContents;

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
    let _ = json::functions(&rows).to_string();

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
    let _ = json::instances(&lives).to_string();

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

    for id in view.functions() {
        let name = shortest(id, view.functions());
        let selector = name.parse().expect("a name that is shown can be typed");
        let chosen = view.select(Some(&selector), &[]).expect("a name that is shown means one function");
        let _ = functions(&view, &chosen);
    }
    let _ = view.select(None, &["c".into()]);
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

fn assert_plain(text: &str) {
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}
