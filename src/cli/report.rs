//! What a command says of the functions it has just run: from the store, as everybody else would read it.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;

use crate::query::{self, FrameRow, FunctionRow, InstanceRow, PhaseFilter, Selection, View};
use crate::model::{Frame, Window};
use crate::render::{self, flame};

/// Opens the part of the store at `root` that begins with `window`.
pub(super) fn open(root: &Path, window: Window) -> anyhow::Result<View> {
    query::open(root, window, |_, _| {}).with_context(|| format!("read back {}", root.display()))
}

/// The hottest frames of `selection` by their own time, at most `count`.
pub(super) fn hottest(view: &View, selection: &Selection, count: usize) -> Vec<FrameRow> {
    let mut rows = query::top(&query::stacks(view, selection, PhaseFilter::Function).profile);
    rows.sort_by_key(|row| std::cmp::Reverse(row.self_weight.samples));
    rows.truncate(count);
    rows
}

/// `spend_sixty 58.9 %, write [k] 12.0 %`: the hottest frames in a line.
pub(super) fn hottest_line(rows: &[FrameRow]) -> String {
    let frame = |row: &FrameRow| format!("{} {}", render::escape::cut(&label(row), 48), render::time::share(row.self_share));
    rows.iter().map(frame).collect::<Vec<_>>().join(", ")
}

fn label(row: &FrameRow) -> String {
    Frame::parse(&row.text).label()
}

/// Writes the flame graph of `selection` to `path`.
pub(super) fn write_flame(view: &View, selection: &Selection, title: &str, path: &Path) -> anyhow::Result<()> {
    let stacks = query::stacks(view, selection, PhaseFilter::Function);
    let coverage = query::coverage(view, selection).map_or("unknown".into(), render::time::share);
    let samples = stacks.profile.total().samples;
    let style = flame::Style {
        title: title.into(),
        subtitle: format!("{} samples, coverage {coverage}", render::time::count(samples)),
        min_width_percent: 0.05,
        ..flame::Style::default()
    };
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut out = BufWriter::new(file);
    flame::write(&stacks.profile, &style, &mut out).with_context(|| format!("draw {}", path.display()))?;
    out.flush().with_context(|| format!("write {}", path.display()))
}

/// An instance in two lines.
pub(super) fn instance_lines(row: &InstanceRow, hottest: &[FrameRow]) -> String {
    let cpu = row.cpu_us.map_or("-".into(), |us| render::time::length(i64::try_from(us).unwrap_or(i64::MAX)));
    let coverage = row.coverage.map_or("unknown".into(), render::time::share);
    let first = row.first_sample_after_exec_us.map_or(String::new(), |us| {
        format!(", first sample {} after its exec", render::time::length(us))
    });
    let head = format!("{}: {cpu} CPU, {} samples, coverage {coverage}{first}", row.id, row.samples);
    match hottest {
        [] => head,
        rows => format!("{head}\n  hottest: {}", hottest_line(rows)),
    }
}

/// The functions of `view`, a row a revision.
pub(super) fn functions(view: &View) -> anyhow::Result<Vec<FunctionRow>> {
    Ok(query::functions(view, &view.select(None, &[])?))
}
