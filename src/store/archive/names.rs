//! Which function's name a sealed row carries: the selectors' parts as text. Pure.
//!
//! Readers of ours do not depend on it: which function a sample was is decided by the identity intervals when it is
//! read. Other engines see the names as they were known when the hour was sealed.

use crate::model::{Confidence, Identity};
use crate::store::contents::InstanceRecord;

/// A function's name in parts, in the order of the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Name {
    pub(super) platform: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) function: Option<String>,
    pub(super) revision: Option<String>,
}

impl Name {
    /// The name of what `identity` says.
    pub(super) fn of(identity: &Identity) -> Name {
        let function = match identity.confidence {
            Confidence::Prewarm => Some(pool(identity.function.as_deref())),
            Confidence::Ambiguous => Some(SEVERAL.into()),
            _ => identity.function.clone(),
        };
        Name {
            platform: identity.platform.clone(),
            namespace: identity.namespace.clone(),
            function,
            revision: identity.revision.clone(),
        }
    }

    /// The name of an instance that nobody has named.
    pub(super) fn unknown(record: &InstanceRecord) -> Name {
        Name {
            platform: Some(Identity::UNKNOWN_PLATFORM.into()),
            function: Some(record.info.unnamed_function()),
            ..Name::default()
        }
    }

    /// Its parts.
    pub(super) fn parts(&self) -> [Option<&str>; 4] {
        [&self.platform, &self.namespace, &self.function, &self.revision].map(|part| part.as_deref())
    }
}

/// The name of what serves several functions at a time.
const SEVERAL: &str = "(several)";

fn pool(kind: Option<&str>) -> String {
    format!("(pool {})", kind.unwrap_or_default())
}

/// The function that `text` of a row of `confidence` stands for: the inverse of [`Name::of`].
pub(super) fn function(text: Option<String>, confidence: Confidence) -> Option<String> {
    match confidence {
        Confidence::Prewarm => {}
        Confidence::Ambiguous => return None,
        _ => return text,
    }
    let kind = text.as_deref().and_then(|text| text.strip_prefix("(pool ")?.strip_suffix(')'));
    kind.map(str::to_owned).filter(|kind| !kind.is_empty())
}

/// How `confidence` is written.
pub(super) fn confidence(confidence: Confidence) -> &'static str {
    CONFIDENCES.iter().find(|(of, _)| *of == confidence).map_or("none", |(_, name)| name)
}

/// What was written as `name`.
pub(super) fn parse_confidence(name: &str) -> Option<Confidence> {
    CONFIDENCES.iter().find(|(_, of)| *of == name).map(|(confidence, _)| *confidence)
}

const CONFIDENCES: [(Confidence, &str); 9] = [
    (Confidence::Exact, "exact"),
    (Confidence::Lossy, "lossy"),
    (Confidence::IdsOnly, "ids-only"),
    (Confidence::AppLevel, "app-level"),
    (Confidence::Guessed, "guessed"),
    (Confidence::Prewarm, "prewarm"),
    (Confidence::Fallback, "fallback"),
    (Confidence::None, "none"),
    (Confidence::Ambiguous, "ambiguous"),
];
