//! A profile as folded text, a line for each stack: `root;…;leaf count`, the form every flame graph tool reads.
//!
//! Promises: the counts add up to the profile's samples, and frames stand as the store wrote them.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::fold::Profile;

/// Writes the lines of `profile` in order of text.
pub fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    for (stack, weight) in profile.folded() {
        writeln!(out, "{stack} {}", weight.samples)?;
    }
    Ok(())
}

/// The same as JSON: `[{stack, samples, seconds}]`.
pub fn json(profile: &Profile) -> Value {
    let line = |(stack, weight): (String, crate::fold::Weight)| json!({"stack": stack, "samples": weight.samples, "seconds": weight.seconds()});
    profile.folded().into_iter().map(line).collect()
}
