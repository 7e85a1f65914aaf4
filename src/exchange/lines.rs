//! Lines of a stranger: bounded, numbered, whatever the bytes.
//!
//! Promises: memory for [`MAX_LINE_BYTES`], never for more, however long a line is.

use std::borrow::Cow;
use std::io::{self, BufRead};

/// Longest line in bytes; a longer one is told and not kept.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// Reads lines.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
}

/// A line, or that there was one.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Its text without the end; what is no UTF-8 is replaced by `U+FFFD`.
    Text(Cow<'a, str>),
    /// It was too long.
    TooLong,
}

impl<R: BufRead> Lines<R> {
    /// Of `input`.
    pub fn new(input: R) -> Lines<R> {
        Lines { input, line: Vec::new(), number: 0, bytes: 0 }
    }

    /// The next line; none at the end.
    ///
    /// # Errors
    /// If `input` cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let (mut too_long, mut any) = (false, false);
        loop {
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                break;
            }
            any = true;
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
            too_long |= self.line.len() + taken.len() > MAX_LINE_BYTES;
            if !too_long {
                self.line.extend_from_slice(taken);
            }
            let used = taken.len() + usize::from(end.is_some());
            self.input.consume(used);
            self.bytes = self.bytes.saturating_add(used as u64);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        if too_long {
            return Ok(Some(Line::TooLong));
        }
        let text = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        Ok(Some(Line::Text(String::from_utf8_lossy(text))))
    }

    /// Number of the last line, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Read as _};

    #[test]
    fn lines_are_bounded_and_numbered() {
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        let fits = "y".repeat(MAX_LINE_BYTES);
        let input =
            [b"a\r\n\xff b\n".to_vec(), long.into_bytes(), b"\n".to_vec(), fits.clone().into()].concat();
        let mut lines = Lines::new(BufReader::with_capacity(1000, &input[..]));
        let mut next = || {
            lines.next_line().unwrap().map(|line| match line {
                Line::Text(text) => Some(text.into_owned()),
                Line::TooLong => None,
            })
        };
        assert_eq!(next(), Some(Some("a".into())));
        assert_eq!(next(), Some(Some("\u{fffd} b".into())));
        assert_eq!(next(), Some(None));
        assert_eq!(next(), Some(Some(fits)));
        assert_eq!(next(), None);
        assert_eq!((lines.number(), lines.bytes()), (4, input.len() as u64));
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut lines = Lines::new(BufReader::new(io::repeat(b'x').take(200 << 20)));
        assert_eq!(lines.next_line().unwrap(), Some(Line::TooLong));
        assert!(lines.line.capacity() <= 2 * MAX_LINE_BYTES);
    }
}
