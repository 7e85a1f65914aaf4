//! A file of a cgroup that is read again and again: it may stay open, because opening it is most of reading it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Longest text read of one of these files, in bytes; they hold some hundred.
const MAX_BYTES: usize = 4096;

/// The file.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    pub(super) open: Option<File>,
}

impl Held {
    pub(super) fn at(path: PathBuf) -> Held {
        Held { path, open: None }
    }

    /// What `parse` makes of its text now. `hold`: whether it stays open.
    ///
    /// # Errors
    /// The file is not there, or its cgroup is gone.
    pub(super) fn read<T>(&mut self, hold: bool, parse: impl Fn(&str) -> T) -> io::Result<T> {
        let file = match self.open.take() {
            Some(file) => file,
            None => File::open(&self.path)?,
        };
        let mut bytes = [0; MAX_BYTES];
        let read = file.read_at(&mut bytes, 0);
        self.open = hold.then_some(file);
        let text = std::str::from_utf8(bytes.get(..read?).unwrap_or_default());
        Ok(parse(text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?))
    }
}
