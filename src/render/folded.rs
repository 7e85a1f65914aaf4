//! A profile as folded text, a line for each stack: `root;…;leaf count`, the form every flame graph tool reads.
//!
//! Promises: the counts add up to the profile's samples, of waits to their microseconds (each line to the nearest, none
//! below one), and frames stand as the store wrote them.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::escape;
use crate::fold::Profile;

/// Writes the lines of `profile` in order of text.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    for (stack, weight) in profile.folded() {
        // What the grammar of frames lets through and a terminal would act on, in the grammar's own escape.
        match profile.measure().told(weight) {
            0 => {}
            count => writeln!(out, "{} {count}", escape::line(&stack))?,
        }
    }
    Ok(())
}

/// The same as JSON: `[{stack, samples, seconds}]`, `waits` for samples where those are counted.
pub fn json(profile: &Profile) -> Value {
    let measure = profile.measure();
    let line = |(stack, weight): (String, crate::fold::Weight)| json!({"stack": stack, super::json::samples(measure): weight.samples, "seconds": measure.seconds(weight)});
    profile.folded().into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fold::Weight;
    use crate::model::{Frame, FrameKind, Quality, Stack};

    #[test]
    fn counts_add_up_and_nothing_acts_on_a_terminal() {
        let hostile = ["\u{9b}31m", "a\u{61c}b", "x;y 7"].map(|name| {
            let frame = Frame::symbol(name, "m", FrameKind::Native).format();
            Arc::new(Stack::new(vec!["main [m]".into(), frame.into()], Quality::COMPLETE))
        });
        let weights = [1, 2, 3].map(|samples| Weight { samples, time_ns: 0 });
        let mut out = Vec::new();
        write(&Profile::from_weights(&hostile, &weights), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let counts = text.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        assert_eq!(counts.sum::<u64>(), 6);
        assert!(text.lines().all(|line| line.matches(';').count() == 1), "{text}");
        assert!(!text.contains(['\u{9b}', '\u{61c}']), "{text}");
    }
}
