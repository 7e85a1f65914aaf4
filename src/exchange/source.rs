//! What is exported: the samples of one question, one by one, and whose they are.
//!
//! Not here: any format.

use crate::model::Window;
use crate::query::{self, PhaseFilter, SampleRow, Selection, View};

/// The samples of a selection in some phases.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// What the window shows.
    pub view: &'a View,
    /// Of which functions and instances.
    pub selection: &'a Selection,
    /// In which phases.
    pub phases: PhaseFilter,
    /// The function as a person would write it: the title where a format has one.
    pub title: &'a str,
    /// First and last sample, as far as is known.
    pub seen: Option<Window>,
}

impl Source<'_> {
    /// Tells `each` every sample, in order of time; an error of it ends the walk.
    ///
    /// # Errors
    /// Of `each`.
    pub fn each(&self, each: impl FnMut(SampleRow<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        query::each_sample(self.view, self.selection, self.phases, each)
    }
}
