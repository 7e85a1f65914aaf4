//! Folded text to events: `root;…;leaf count`, a line each.
//!
//! Promises: frames stand in the store as they stood in the line, made fit for it; memory for one line.

use std::io::BufRead;
use std::sync::Arc;

use super::event::{Event, Reason, Skipped};
use super::lines::{Line, Lines};
use super::text;
use crate::model::frame::UNWOUND_SHORT;

/// The stack and the count of a line; none for a line that is none.
pub fn split(line: &str) -> Option<(&str, u64)> {
    let (stack, count) = line.trim_end().rsplit_once([' ', '\t'])?;
    let count = count.bytes().all(|b| b.is_ascii_digit()).then(|| count.parse().ok())??;
    Some((stack, count))
}

/// Reads the lines of `lines` and tells each stack to `each`, with the number of its line.
///
/// # Errors
/// If `lines` cannot be read, or of `each`.
pub fn read<R: BufRead>(
    lines: &mut Lines<R>,
    skipped: &mut Skipped,
    each: &mut dyn FnMut(Event, u64) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    loop {
        let (event, reason) = match lines.next_line()? {
            None => return Ok(()),
            Some(Line::TooLong) => (None, Some(Reason::LongLine)),
            Some(Line::Text(text)) if text.trim().is_empty() => (None, None),
            Some(Line::Text(text)) => match split(&text) {
                None if text.starts_with('#') => (None, None),
                None => (None, Some(Reason::NotUnderstood)),
                Some((_, 0)) => (None, Some(Reason::ZeroCount)),
                Some((stack, count)) => (Some(Event::of(frames(stack), count)), None),
            },
        };
        let number = lines.number();
        if let Some(reason) = reason {
            skipped.add(reason, number);
        }
        if let Some(event) = event {
            each(event, number)?;
        }
    }
}

fn frames(stack: &str) -> Vec<Arc<str>> {
    let frames = stack.split(';').filter(|frame| !frame.is_empty());
    let mut frames: Vec<Arc<str>> = frames.map(|frame| Arc::from(&*text::frame(frame))).collect();
    if frames.is_empty() {
        frames.push(UNWOUND_SHORT.into());
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> (Vec<(String, u64, u64)>, Skipped) {
        let (mut events, mut skipped) = (Vec::new(), Skipped::default());
        read(&mut Lines::new(text.as_bytes()), &mut skipped, &mut |event, line| {
            events.push((event.frames.join(";"), event.count, line));
            Ok(())
        })
        .unwrap();
        (events, skipped)
    }

    #[test]
    fn lines_are_stacks_with_counts() {
        let (events, skipped) = all(
            "# a\na;b c (int) 7\n\nmain [pi];w [kernel]_[k] 2\nno count\nz 0\n 3\na;;b 1\nx -1\nx 99999999999999999999\n",
        );
        let expected =
            [("a;b c (int)", 7, 2), ("main [pi];w [kernel]_[k]", 2, 4), (UNWOUND_SHORT, 3, 7), ("a;b", 1, 8)];
        assert_eq!(events, expected.map(|(stack, count, line)| (stack.to_string(), count, line)));
        assert_eq!((skipped.count(Reason::NotUnderstood), skipped.count(Reason::ZeroCount)), (3, 1));
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "(.{0,60}\n){0,9}|([a; 0-9]{0,20}\n){0,9}") {
            let (events, skipped) = all(&text);
            let told = events.len() as u64 + skipped.iter().map(|(_, count, _)| count).sum::<u64>();
            prop_assert!(told <= text.split('\n').count() as u64);
            prop_assert!(events.iter().all(|(stack, count, _)| !stack.is_empty() && *count > 0));
        }
    }
}
