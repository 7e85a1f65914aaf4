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
    /// How often it is not looked for any more, after it was not there: a host that does not measure pressure will not begin
    /// to in the next second.
    absent: u8,
}

/// See [`Held::absent`].
const ABSENT: u8 = 30;

impl Held {
    pub(super) fn at(path: PathBuf) -> Held {
        Held { path, open: None, absent: 0 }
    }

    /// Closes it: who reads it next opens it again.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// What `parse` makes of its text now. `hold`: whether it stays open.
    ///
    /// # Errors
    /// The file is not there, or its cgroup is gone.
    pub(super) fn read<T>(&mut self, hold: bool, parse: impl Fn(&str) -> T) -> io::Result<T> {
        if let Some(less) = self.absent.checked_sub(1) {
            self.absent = less;
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = self.open.take().map_or_else(|| File::open(&self.path), Ok).inspect_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                self.absent = ABSENT;
            }
        })?;
        let mut bytes = [0; MAX_BYTES];
        let read = file.read_at(&mut bytes, 0);
        self.open = hold.then_some(file);
        let text = std::str::from_utf8(bytes.get(..read?).unwrap_or_default());
        Ok(parse(text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_looked_for_once_in_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cpu.pressure");
        let mut held = Held::at(path.clone());
        let mut read = || held.read(true, str::to_owned).map_err(|error| error.kind());
        assert_eq!(read(), Err(io::ErrorKind::NotFound));
        std::fs::write(&path, "some").unwrap();
        for _ in 0..ABSENT {
            assert_eq!(read(), Err(io::ErrorKind::NotFound));
        }
        assert_eq!(read().as_deref(), Ok("some"));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read().as_deref(), Ok("some"), "it is open");
    }
}
