//! What was looked at, how it stands, and the line that mends it.

use serde::Serialize;

/// How a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// As it should be.
    Ok,
    /// Works, with less.
    Warn,
    /// The agent cannot do its work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// How it stands.
    pub standing: Standing,
    /// What was found.
    pub found: String,
    /// The line that mends it; none where nothing is to be mended.
    pub mend: Option<String>,
}

impl Finding {
    /// A finding that is as it should be.
    pub fn ok(what: &str, found: impl Into<String>) -> Finding {
        Finding { what: what.into(), standing: Standing::Ok, found: found.into(), mend: None }
    }

    /// A finding to be mended.
    pub fn bad(what: &str, standing: Standing, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { what: what.into(), standing, found: found.into(), mend: Some(mend.into()) }
    }
}
