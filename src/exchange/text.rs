//! Frames and names of strangers made fit for the store: one line, bounded, nothing that acts on a terminal.
//!
//! Promises: what comes out is left as it is when it goes in again, and what [`crate::render::folded`] prints of the
//! store goes in unchanged.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::frame::{Frame, FrameName, TRUNCATED, UNWOUND_SHORT};
use crate::model::{FrameKind, Quality, Stack};
use crate::render::escape;

/// Longest frame in bytes; what is longer is cut and marked with `…`. Twice what our own grammar lets a symbol take.
pub const MAX_FRAME_BYTES: usize = 4096;
/// Longest name of a process in bytes; the kernel's has 15.
const MAX_COMM_BYTES: usize = 256;
/// Most frames of a stack; the rest of the root end is left out and marked.
pub const MAX_FRAMES: usize = 2048;

/// `text` as one frame.
pub fn frame(text: &str) -> Cow<'_, str> {
    let line = escape::line(bounded(text, MAX_FRAME_BYTES));
    let line = if line.contains(';') { Cow::Owned(line.replace(';', "\\x3b")) } else { line };
    if line.len() <= MAX_FRAME_BYTES {
        return if text.len() > MAX_FRAME_BYTES { Cow::Owned(format!("{line}…")) } else { line };
    }
    Cow::Owned(format!("{}…", bounded(&line, MAX_FRAME_BYTES)))
}

/// `text` as the name of a process.
pub fn comm(text: &str) -> Cow<'_, str> {
    escape::line(bounded(text, MAX_COMM_BYTES))
}

/// A stack of `frames`, root first, with what can be told of its quality. Frames beyond [`MAX_FRAMES`] are left out at
/// the root end.
pub fn stack(mut frames: Vec<Arc<str>>) -> Stack {
    if frames.len() > MAX_FRAMES {
        frames.drain(..frames.len() - MAX_FRAMES);
        frames.insert(0, TRUNCATED.into());
    }
    let mut quality = match frames.first().map(|frame| &**frame) {
        Some(TRUNCATED) => Quality::TRUNCATED,
        Some(UNWOUND_SHORT) | None => Quality::SHORT,
        Some(_) => Quality::COMPLETE,
    };
    for frame in &frames {
        let parsed = Frame::parse(frame);
        if !parsed.is_symbolized() {
            quality = quality.with(Quality::UNSYMBOLIZED);
        }
        if parsed.kind == FrameKind::Guessed {
            quality = quality.with(Quality::GUESSED);
        }
    }
    Stack::new(frames, quality)
}

/// What tools without a column for modules show as the name of `frame`, and its module; none for a marker.
pub fn name_and_module(frame: &Frame) -> (String, Option<&str>) {
    let name = match &frame.name {
        FrameName::Symbol(_) => frame.label(),
        _ => frame.format(),
    };
    let module = Some(frame.module.as_str()).filter(|module| !module.is_empty());
    (escape::line(&name).into_owned(), module)
}

/// The first `limit` bytes of `text`, or less at a character boundary.
fn bounded(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_stack_tells_what_is_wrong_with_it() {
        let of = |frames: &[&str]| stack(frames.iter().map(|frame| Arc::from(*frame)).collect());
        for (frames, quality) in [
            (&["main [pi]"][..], Quality::COMPLETE),
            (&[], Quality::SHORT),
            (&[UNWOUND_SHORT, "pi+0x40"], Quality::SHORT.with(Quality::UNSYMBOLIZED)),
            (&[TRUNCATED, "a [b]_[g]"], Quality::TRUNCATED.with(Quality::GUESSED)),
        ] {
            assert_eq!(of(frames).quality(), quality, "{frames:?}");
        }
        let deep = stack((0..MAX_FRAMES + 9).map(|n| n.to_string().into()).collect());
        assert_eq!((deep.frames().len(), &*deep.frames()[0]), (MAX_FRAMES + 1, TRUNCATED));
        assert_eq!(&*deep.frames()[MAX_FRAMES], (MAX_FRAMES + 8).to_string(), "the leaf is kept");
    }

    proptest! {
        #[test]
        fn a_frame_is_one_frame_and_stays_what_it_is(text in ".{0,80}|[a;\n]{0,9}|.{2000,9000}") {
            let once = frame(&text).into_owned();
            prop_assert!(!once.contains(|c: char| c == ';' || c.is_control()));
            prop_assert!(once.len() <= MAX_FRAME_BYTES + 3);
            if once.len() <= MAX_FRAME_BYTES {
                prop_assert_eq!(frame(&once), once.as_str());
            }
        }
    }
}
