//! Apache OpenWhisk on Docker: no labels, only a container name `wsk<invoker>_<n>_<prefix>_<suffix>`.
//!
//! A cold container's prefix is the namespace and its suffix the action, both without package and without every
//! character outside `[A-Za-z0-9_]`: lossy. A prewarmed container's prefix is `prewarm` and its suffix the runtime
//! kind, for ever: which action it becomes is not to be seen here. The platform's own containers (`invoker0`,
//! `whisk-…`) do not match.

use super::IdentityConfig;
use super::rules::{Verdict, env, function};
use crate::model::{Confidence, Container, Identity};

/// The name's form; `__OW_API_HOST`, which every action container has, makes it sure. A container that was gone
/// before its environment could be read is known by its name alone.
pub fn name(container: &Container, _: &IdentityConfig) -> Verdict {
    let Some(parts) = container.name.as_deref().and_then(split) else {
        return Verdict::Pass {
            why: "the container name is not of the form wsk<invoker>_<n>_<prefix>_<suffix>".into(),
        };
    };
    let confirmed = env(container, "__OW_API_HOST").is_some();
    if parts.prefix == "prewarm" {
        let identity = function("openwhisk", Confidence::Prewarm);
        return Verdict::Match {
            identity,
            why: format!("a prewarmed container of kind {}", clip(parts.suffix)),
        };
    }
    let ambiguous = parts.suffix.contains('_');
    let confidence = if confirmed && !ambiguous { Confidence::Lossy } else { Confidence::Guessed };
    let mut why =
        String::from("the container name holds namespace and action without punctuation and package");
    if ambiguous {
        why.push_str("; it has more than one `_`, so where the namespace ends is a guess");
    }
    if !confirmed {
        why.push_str("; no __OW_API_HOST confirms it");
    }
    Verdict::Match {
        identity: Identity {
            namespace: Some(parts.prefix.into()),
            function: Some(parts.suffix.into()),
            ..function("openwhisk", confidence)
        },
        why,
    }
}

struct Parts<'a> {
    prefix: &'a str,
    suffix: &'a str,
}

/// Splits behind the first `_<digits>_`: what comes before it is the invoker's, which may hold `_` too.
fn split(name: &str) -> Option<Parts<'_>> {
    let mut rest = name.strip_prefix("wsk")?;
    loop {
        let (invoker, behind) = rest.split_once('_')?;
        if !invoker.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)) {
            return None;
        }
        if let Some((number, named)) = behind.split_once('_')
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
        {
            let (prefix, suffix) = named.split_once('_')?;
            return (!prefix.is_empty() && !suffix.is_empty()).then_some(Parts { prefix, suffix });
        }
        rest = behind;
    }
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{NO_RULE, identify};

    #[test]
    fn names_are_taken_apart_as_far_as_they_can_be() {
        let cases = [
            ("wsk0_12_guest_hello", Confidence::Lossy, Some(("guest", "hello"))),
            ("wskow_dev.1-a0_7_guest_hello", Confidence::Lossy, Some(("guest", "hello"))),
            ("wsk0_12_guest_my_action", Confidence::Guessed, Some(("guest", "my_action"))),
            ("wsk0_3_prewarm_nodejs20", Confidence::Prewarm, None),
            ("wsk0_3_prewarm_my_kind", Confidence::Prewarm, None),
        ];
        for (name, confidence, names) in cases {
            let container = Container {
                name: Some(name.into()),
                env: vec!["__OW_API_HOST=https://172.17.0.1".into()],
                ..Container::default()
            };
            let identity = identify(&container, &IdentityConfig::default()).identity;
            assert_eq!(identity.confidence, confidence, "{name}");
            assert_eq!(identity.namespace.as_deref().zip(identity.function.as_deref()), names, "{name}");
            let unconfirmed =
                identify(&Container { env: vec![], ..container }, &IdentityConfig::default()).identity;
            assert!(unconfirmed.function_container, "{name}");
            assert_ne!(unconfirmed.confidence, Confidence::Lossy, "{name}");
        }
        for name in [
            "invoker0",
            "whisk-controller",
            "wsk0_x_guest_hello",
            "wsk0_1_guest",
            "wsk0_1__hello",
            "wsk 0_1_a_b",
        ] {
            let container = Container { name: Some(name.into()), ..Container::default() };
            assert_eq!(identify(&container, &IdentityConfig::default()).identity.rule, NO_RULE, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_split_or_not(name in "(wsk)?[wsk0-9_.\\-é]*") {
            if let Some(parts) = split(&name) {
                let end = format!("_{}_{}", parts.prefix, parts.suffix);
                proptest::prop_assert!(name.ends_with(&end));
            }
        }
    }
}
