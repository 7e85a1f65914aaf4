//! Names of functions: the full one, `platform/namespace/function@revision`, and any end of it that tells enough.
//!
//! Parts are percent-encoded in the full form, an unknown part is `-`, a pool of waiting containers `(pool <kind>)`,
//! containers that serve several functions `(several)`.
//! Promises: what is written is read back the same, and holds nothing but printable ASCII.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use thiserror::Error;

use crate::model::{Confidence, Identity, InstanceInfo};

/// One part of a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Not known, or the platform has no such thing.
    Null,
    /// A name, never empty.
    Name(String),
    /// Waiting containers of this kind that are no function yet.
    Pool(String),
    /// Containers that serve several functions at a time: what is measured of them is no single one's.
    Several,
}

/// How [`Part::Several`] is written.
const SEVERAL: &str = "(several)";

impl Part {
    fn of(name: Option<&str>) -> Part {
        name.filter(|name| !name.is_empty()).map_or(Part::Null, |name| Part::Name(name.into()))
    }

    /// As it is shown and put in JSON: unescaped, none where it is not known.
    pub fn text(&self) -> Option<String> {
        match self {
            Part::Null => None,
            Part::Name(name) => Some(name.clone()),
            Part::Pool(kind) => Some(format!("(pool {kind})")),
            Part::Several => Some(SEVERAL.into()),
        }
    }

    fn parse(text: &str) -> Result<Part, SelectorError> {
        if text == "-" {
            return Ok(Part::Null);
        }
        if text == SEVERAL {
            return Ok(Part::Several);
        }
        if let Some(kind) = text.strip_prefix("(pool ").and_then(|rest| rest.strip_suffix(')')) {
            return Ok(Part::Pool(decode(kind)?));
        }
        match decode(text)? {
            name if name.is_empty() => Err(SelectorError::Empty),
            name => Ok(Part::Name(name)),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Null => f.write_char('-'),
            Part::Name(name) if name == "-" => f.write_str("%2D"),
            Part::Name(name) => encode(name, f),
            Part::Pool(kind) => {
                f.write_str("(pool ")?;
                encode(kind, f)?;
                f.write_char(')')
            }
            Part::Several => f.write_str(SEVERAL),
        }
    }
}

/// A function and its revision, in full.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId {
    /// The platform.
    pub platform: Part,
    /// The platform's namespace.
    pub namespace: Part,
    /// The function.
    pub function: Part,
    /// Its revision.
    pub revision: Part,
}

impl FunctionId {
    /// What `identity` names; none for a container that is no function.
    pub fn of(identity: &Identity) -> Option<FunctionId> {
        let function = match identity.function.as_deref() {
            name if identity.confidence == Confidence::Prewarm => Part::Pool(name.unwrap_or_default().into()),
            _ if identity.confidence == Confidence::Ambiguous => Part::Several,
            name => Part::of(name),
        };
        identity.function_container.then(|| FunctionId {
            platform: Part::of(identity.platform.as_deref()),
            namespace: Part::of(identity.namespace.as_deref()),
            function,
            revision: Part::of(identity.revision.as_deref()),
        })
    }

    /// What stands for an instance that nobody has named: the begin of its container's id.
    pub fn unknown(info: &InstanceInfo) -> FunctionId {
        FunctionId {
            platform: Part::Name(Identity::UNKNOWN_PLATFORM.into()),
            namespace: Part::Null,
            function: Part::of(Some(&info.unnamed_function())),
            revision: Part::Null,
        }
    }

    /// The same function of any revision.
    pub fn any_revision(&self) -> Selector {
        Selector {
            platform: Some(self.platform.clone()),
            namespace: Some(self.namespace.clone()),
            function: self.function.clone(),
            revision: None,
        }
    }
}

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}@{}", self.platform, self.namespace, self.function, self.revision)
    }
}

/// What a person typed: the end of a full name, or all of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The platform, none for any.
    pub platform: Option<Part>,
    /// The namespace, none for any.
    pub namespace: Option<Part>,
    /// The function.
    pub function: Part,
    /// The revision, none for all of them together.
    pub revision: Option<Part>,
}

impl Selector {
    /// Whether `id` is the function meant, its revision left aside.
    pub fn matches_function(&self, id: &FunctionId) -> bool {
        self.function == id.function
            && self.namespace.as_ref().is_none_or(|part| *part == id.namespace)
            && self.platform.as_ref().is_none_or(|part| *part == id.platform)
    }

    /// Whether `id` is the function and the revision meant.
    pub fn matches(&self, id: &FunctionId) -> bool {
        self.matches_function(id) && self.revision.as_ref().is_none_or(|part| *part == id.revision)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.platform, &self.namespace].into_iter().flatten() {
            write!(f, "{part}/")?;
        }
        self.function.fmt(f)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    /// Characters need no encoding but for `%`, and `/` and `@` where they would part the name; a revision may hold
    /// any.
    fn from_str(text: &str) -> Result<Selector, SelectorError> {
        let (path, revision) = match text.split_once('@') {
            Some((path, revision)) => (path, Some(Part::parse(revision)?)),
            None => (text, None),
        };
        let mut parts = path.split('/').rev();
        let function = Part::parse(parts.next().unwrap_or_default())?;
        let namespace = parts.next().map(Part::parse).transpose()?;
        let platform = parts.next().map(Part::parse).transpose()?;
        match parts.next() {
            None => Ok(Selector { platform, namespace, function, revision }),
            Some(_) => Err(SelectorError::TooManyParts),
        }
    }
}

/// Why a text is no selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// A part of it is empty.
    #[error("a part of the name is empty; write `-` for an unknown one")]
    Empty,
    /// It has more than three parts.
    #[error("more than `platform/namespace/function@revision`; write a `/` inside of a name as `%2F`")]
    TooManyParts,
    /// A `%` that begins no byte, or bytes that are no text.
    #[error("`%` needs two hexadecimal digits, and the bytes must be UTF-8; write `%` itself as `%25`")]
    Encoding,
}

fn encode(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    name.bytes().try_for_each(|byte| match byte {
        b if b.is_ascii_alphanumeric() || b"-._~:+,=".contains(&b) => f.write_char(char::from(b)),
        b => write!(f, "%{b:02X}"),
    })
}

fn decode(text: &str) -> Result<String, SelectorError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or(SelectorError::Encoding)?;
        let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or(SelectorError::Encoding)?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| SelectorError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(platform: &str, namespace: Option<&str>, function: &str, revision: Option<&str>) -> FunctionId {
        FunctionId {
            platform: Part::of(Some(platform)),
            namespace: Part::of(namespace),
            function: Part::of(Some(function)),
            revision: Part::of(revision),
        }
    }

    #[test]
    fn any_end_of_a_name_matches() {
        let pi = id("openfaas", Some("demo"), "pi", Some("reg/pi:2"));
        for (text, matches) in [
            ("pi", true),
            ("demo/pi", true),
            ("openfaas/demo/pi", true),
            ("openfaas/demo/pi@reg%2Fpi:2", true),
            ("pi@reg/pi:2", true),
            ("pi@-", false),
            ("-/pi", false),
            ("p", false),
            ("demo/pi@1", false),
        ] {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.matches(&pi), matches, "{text}");
        }
        assert_eq!(pi.to_string(), "openfaas/demo/pi@reg%2Fpi:2");
    }

    #[test]
    fn faults_are_named() {
        for (text, fault) in [
            ("", SelectorError::Empty),
            ("a//b", SelectorError::Empty),
            ("pi@", SelectorError::Empty),
            ("a/b/c/d", SelectorError::TooManyParts),
            ("%", SelectorError::Encoding),
            ("%+1", SelectorError::Encoding),
            ("%ff", SelectorError::Encoding),
        ] {
            assert_eq!(text.parse::<Selector>(), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_pool_is_no_function_of_that_name() {
        let pool =
            FunctionId { function: Part::Pool("nodejs:20".into()), ..id("openwhisk", None, "x", None) };
        assert_eq!(pool.to_string(), "openwhisk/-/(pool nodejs:20)@-");
        let selector: Selector = "(pool nodejs:20)".parse().unwrap();
        assert!(selector.matches(&pool));
        assert!(!selector.matches(&id("openwhisk", None, "(pool nodejs:20)", None)));
    }

    fn part() -> impl Strategy<Value = Part> {
        prop_oneof![
            Just(Part::Null),
            Just(Part::Name("-".into())),
            "[a-z/@%() -]{1,9}|.{1,20}".prop_map(Part::Name),
            ".{0,9}".prop_map(Part::Pool),
            Just(Part::Several),
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(platform in part(), namespace in part(), function in part(), revision in part()) {
            let id = FunctionId { platform, namespace, function, revision };
            let text = id.to_string();
            prop_assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{}", text);
            let selector: Selector = text.parse().unwrap();
            prop_assert!(selector.matches(&id));
            prop_assert_eq!(selector.to_string(), text);
        }

        #[test]
        fn any_text_is_a_selector_or_an_error(text in ".*") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
            }
        }
    }
}
