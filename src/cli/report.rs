//! What a command says of the functions it has just run: from the store, as everybody else would read it.

use std::path::Path;

use anyhow::Context as _;

use super::flame;
use crate::model::Window;
use crate::query::{
    self, FrameRow, FunctionId, FunctionRow, InstanceRow, PhaseFilter, Selection, Selector, View,
};
use crate::render::flame::Style;
use crate::render::{escape, time};

/// Opens the part of the store at `root` that begins with `window`.
pub(super) fn open(root: &Path, window: Window) -> anyhow::Result<View> {
    query::open(root, window, |_, _| {}).with_context(|| format!("read back {}", root.display()))
}

/// The hottest frames of `selection` by their own time, at most `count`.
pub(super) fn hottest(view: &View, selection: &Selection, count: usize) -> Vec<FrameRow> {
    let mut rows = query::top(&query::stacks(view, selection, PhaseFilter::Function).profile);
    rows.retain(|row| row.own.samples > 0);
    rows.truncate(count);
    rows
}

/// `spend_sixty 58.9 %, write [k] 12.0 %`: the hottest frames in a line.
pub(super) fn hottest_line(rows: &[FrameRow]) -> String {
    let frame = |row: &FrameRow| {
        format!("{} {}", escape::line(&escape::cut(&row.frame, 48)), time::share(row.own_share))
    };
    rows.iter().map(frame).collect::<Vec<_>>().join(", ")
}

/// Writes the flame graph of `selection` to `path`.
pub(super) fn write_flame(
    view: &View,
    selection: &Selection,
    selector: &Selector,
    path: &Path,
) -> anyhow::Result<()> {
    let phases = PhaseFilter::Function;
    let stacks = query::stacks(view, selection, phases);
    let title = flame::title(view, selector);
    let subtitle = flame::subtitle(view, selection, &stacks, phases);
    flame::write_file(path, &stacks, &Style { title, subtitle, min_width_percent: 0.05, ..Style::default() })
}

/// An instance in two lines.
pub(super) fn instance_lines(row: &InstanceRow, hottest: &[FrameRow]) -> String {
    let cpu = row.cpu_us.map_or("-".into(), |us| time::length(i64::try_from(us).unwrap_or(i64::MAX)));
    let coverage = row.coverage.map_or("unknown".into(), time::share);
    let first = row
        .first_sample_after_exec_us
        .map_or(String::new(), |us| format!(", first sample {} after its exec", time::length(us)));
    let name = short_name(&row.id);
    let head = format!("{name}: {cpu} CPU, {} samples, coverage {coverage}{first}", row.samples);
    match hottest {
        [] => head,
        rows => format!("{head}\n  hottest: {}", hottest_line(rows)),
    }
}

/// `pi@2`, as people write it.
pub(super) fn short_name(id: &FunctionId) -> String {
    let parts = [id.function.text(), id.revision.text()];
    escape::line(&parts.into_iter().flatten().collect::<Vec<_>>().join("@")).into_owned()
}

/// What to type for that revision of a function whose name is no other's.
pub(super) fn typed(id: &FunctionId) -> String {
    let whole = Selector {
        platform: None,
        namespace: None,
        function: id.function.clone(),
        revision: Some(id.revision.clone()),
    };
    whole.to_string()
}

/// The functions of `view`, a row a revision.
pub(super) fn functions(view: &View) -> anyhow::Result<Vec<FunctionRow>> {
    Ok(query::functions(view, &view.select(None, &[])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Part;

    #[test]
    fn what_is_typed_means_that_revision() {
        for revision in ["2", "image:fnscope-demo/function:2", "a@b%"] {
            let part = |text: &str| Part::Name(text.into());
            let id = FunctionId {
                platform: part("custom"),
                namespace: Part::Null,
                function: part("pi"),
                revision: part(revision),
            };
            let selector: Selector = typed(&id).parse().expect("it can be read back");
            assert!(selector.matches(&id), "{selector}");
            assert!(!selector.matches(&FunctionId { revision: part("1"), ..id }), "{selector}");
        }
    }
}
