//! Lines of a text that comes in pieces, as a file that is followed does: each once its end is there.
//!
//! Promises: the same lines whatever the pieces; of a line no more than [`Lines::MAX_BYTES`] is kept, or told.

/// What is kept between pieces.
#[derive(Debug, Default)]
pub struct Lines {
    /// The begin of a line whose end is not there yet.
    line: Vec<u8>,
    /// Whether more of it went before, which was not read: it is no line.
    skips: bool,
}

impl Lines {
    /// Longest line that is kept while its end is not there. Of a longer one that much is told.
    pub const MAX_BYTES: usize = 16 << 10;

    /// Those of a text from its begin, or, where `skips`, from somewhere in it: from the next line on.
    pub fn new(skips: bool) -> Lines {
        Lines { line: Vec::new(), skips }
    }

    /// Tells `each` of the lines, without their ends, that end in `piece`.
    pub fn feed(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            let room = Lines::MAX_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(text.get(..room).unwrap_or(text));
            if ends {
                if !std::mem::take(&mut self.skips) {
                    each(&self.line);
                }
                self.line.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of `text` in pieces of those lengths, again and again.
    fn told(text: &[u8], skips: bool, lengths: &[usize]) -> Vec<Vec<u8>> {
        let (mut lines, mut told) = (Lines::new(skips), Vec::new());
        let (mut rest, mut lengths) = (text, lengths.iter().cycle());
        while let (false, Some(length)) = (rest.is_empty(), lengths.next()) {
            let (piece, behind) = rest.split_at(rest.len().min(*length));
            lines.feed(piece, |line| told.push(line.to_vec()));
            assert!(lines.line.len() <= Lines::MAX_BYTES, "{}", lines.line.len());
            rest = behind;
        }
        told
    }

    #[test]
    fn a_line_is_told_once_its_end_is_there() {
        for (text, skips, expected) in [
            ("", false, &[][..]),
            ("a", false, &[]),
            ("a\n\nb\r\nc", false, &["a", "", "b\r"]),
            ("a\nb\nc", true, &["b"]),
        ] {
            let lines = told(text.as_bytes(), skips, &[1]);
            assert_eq!(lines, expected.iter().map(|line| line.as_bytes()).collect::<Vec<_>>(), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn lines_are_those_of_the_text_whatever_the_pieces(
            runs in proptest::collection::vec((0_u8..4, 1..3 * Lines::MAX_BYTES / 2), 0..8),
            short: Vec<u8>, skips: bool,
            lengths in proptest::collection::vec(1..2 * Lines::MAX_BYTES, 1..5),
        ) {
            let mut text: Vec<u8> = short;
            for (kind, length) in runs {
                text.extend(std::iter::repeat_n(b'a' + kind, length));
                text.extend(std::iter::repeat_n(b'\n', usize::from(kind)));
            }
            let mut expected: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            expected.pop();
            expected.iter_mut().for_each(|line| line.truncate(Lines::MAX_BYTES));
            let expected = expected.split_off(usize::from(skips).min(expected.len()));
            proptest::prop_assert!(told(&text, skips, &lengths) == expected);
        }
    }
}
