//! Where a runtime listens: at a path that somebody gave, or at one of its usual ones.

use std::path::{Path, PathBuf};

/// Where a runtime listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Socket {
    /// At this path. A runtime that does not listen there is down.
    At(PathBuf),
    /// At the first of these paths that is there. Where none is, there is no such runtime here yet, and none is missed.
    Usual(&'static [&'static str]),
}

impl Socket {
    /// The path to connect to; none where no usual one is there. Costs a look at each of them.
    pub fn find(&self) -> Option<PathBuf> {
        match self {
            Socket::At(path) => Some(path.clone()),
            Socket::Usual(_) => self.paths().find(|path| path.exists()).map(Path::to_owned),
        }
    }

    /// Where it may be.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let (at, usual): (_, &[&str]) = match self {
            Socket::At(path) => (Some(path.as_path()), &[]),
            Socket::Usual(paths) => (None, paths),
        };
        at.into_iter().chain(usual.iter().map(Path::new))
    }
}

impl std::fmt::Display for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Socket::At(path) => path.display().fmt(f),
            Socket::Usual(paths) => paths.join(" or ").fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_usual_path_that_is_there_is_found() {
        let none = Socket::Usual(&["/nowhere/a.sock", "/nowhere/b.sock"]);
        assert_eq!((none.find(), none.to_string()), (None, "/nowhere/a.sock or /nowhere/b.sock".into()));
        assert_eq!(Socket::Usual(&["/nowhere/a.sock", "/dev/null"]).find(), Some("/dev/null".into()));
        assert_eq!(Socket::At("/nowhere/a.sock".into()).find(), Some("/nowhere/a.sock".into()));
    }
}
