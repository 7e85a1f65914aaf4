//! Patterns of the configuration: text in which `*` stands for any characters, none included. Nothing else is special.

use serde::{Deserialize, Serialize};

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(pub String);

impl Glob {
    /// Whether all of `text` is of this form.
    ///
    /// Costs at most the product of the lengths; both are bounded where a container's text comes in.
    pub fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == text };
        let Some(mut left) = text.strip_prefix(first) else { return false };
        let mut parts = rest.split('*').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return left.ends_with(part);
            }
            // The earliest place leaves the most for what follows.
            let Some(at) = left.find(part) else { return false };
            left = left.get(at + part.len()..).unwrap_or_default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, matches) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "any\nthing", true),
            ("team-*", "team-a", true),
            ("team-*", "team-", true),
            ("team-*", "a-team-", false),
            ("*/fn/*", "host:5000/fn/x:1", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "ab", false),
            ("**", "x", true),
            ("é*", "éa", true),
            ("[a]?", "ab", false),
        ] {
            assert_eq!(Glob(pattern.into()).matches(text), matches, "{pattern} {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_matches_what_it_was_made_from(parts in proptest::collection::vec("[ab*é]{0,3}", 1..5), fill in "[abé]{0,4}") {
            let parts: Vec<String> = parts.iter().map(|part| part.replace('*', "")).collect();
            proptest::prop_assert!(Glob(parts.join("*")).matches(&parts.join(&fill)));
        }

        #[test]
        fn any_text_matches_or_not(pattern in "[a*é]{0,12}", text in "[aé]{0,12}") {
            let _ = Glob(pattern).matches(&text);
        }
    }
}
