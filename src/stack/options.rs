//! What of naming frames is chosen by whoever runs the agent.

use std::path::PathBuf;
use std::time::Duration;

/// How frames are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolOptions {
    /// Whether functions that were inlined are frames of their own, where debug information tells them.
    pub inlines: bool,
    /// Folders with debug files by build id (`.build-id/ab/cdef….debug`), on this host.
    pub debug_dirs: Vec<PathBuf>,
    /// Servers that are asked for debug files by build id, in order: what a container runs is told to them.
    pub debuginfod: Vec<String>,
    /// How long until a debug file that was not there is looked for again.
    pub look_again: Duration,
}

impl Default for SymbolOptions {
    /// Nothing beside the files themselves.
    fn default() -> SymbolOptions {
        SymbolOptions {
            inlines: false,
            debug_dirs: Vec::new(),
            debuginfod: Vec::new(),
            look_again: Duration::from_secs(60),
        }
    }
}
