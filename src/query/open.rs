//! The one place where questions meet the disk: journals are read one by one and merged.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::merge::Merger;
use super::selector::FunctionId;
use super::view::View;
use crate::model::{Timestamp, Window};
use crate::store::{JournalContents, JournalFile, Store};

/// The view of the store at `root` for `window`. `progress` is told how many journals were read, and of how many.
pub fn open(root: &Path, window: Window, mut progress: impl FnMut(usize, usize)) -> anyhow::Result<View> {
    let mut merger = Merger::new(window);
    let journals = journals(root)?;
    let all = journals.len();
    for (at, journal) in journals.into_iter().enumerate() {
        progress(at, all);
        merger.add(load(journal, window)?);
    }
    progress(all, all);
    Ok(View::new(merger.finish()))
}

/// The functions in the store at `root` that can be found within `limit`, for a shell that completes a name.
/// Whatever cannot be read is left out.
pub fn names(root: &Path, limit: Duration) -> Vec<FunctionId> {
    let begin = Instant::now();
    let no_samples = Window { from: Timestamp::MAX, to: Timestamp::MAX };
    let mut merger = Merger::new(no_samples);
    let journals = journals(root).unwrap_or_default();
    for journal in journals.into_iter().rev().take_while(|_| begin.elapsed() < limit) {
        if let Ok(contents) = load(journal, no_samples) {
            merger.add(contents);
        }
    }
    View::new(merger.finish()).functions().to_vec()
}

fn journals(root: &Path) -> anyhow::Result<Vec<JournalFile>> {
    Ok(Store::open(root)?.journals()?)
}

fn load(journal: JournalFile, window: Window) -> anyhow::Result<JournalContents> {
    journal.load(window).with_context(|| format!("read {}", journal.path().display()))
}
