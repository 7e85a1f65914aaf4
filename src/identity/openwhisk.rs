//! Apache OpenWhisk. On Docker: no labels, only a container name `wsk<invoker>_<n>_<prefix>_<suffix>`. On Kubernetes:
//! a pod of the same name in small letters, and labels that tell its use but not its action.
//!
//! A cold container's prefix is the namespace and its suffix the action, both without package and without every
//! character outside `[A-Za-z0-9_]`: lossy. A prewarmed container's prefix is `prewarm` and its suffix the runtime
//! kind, for ever: which action it becomes is told later, if at all (see `later`). The platform's own containers
//! (`invoker0`, `whisk-…`) do not match.

use super::pod::{container_name, of_the_pod, pod_label, pod_name};
use super::rules::{Verdict, env, function, matched, pool};
use super::{IdentityConfig, image};
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
        let kind = kind(container, parts.suffix);
        let why = format!("a prewarmed container of kind {}", clip(&kind));
        return pool(function("openwhisk", Confidence::Prewarm), Some(&kind), &why);
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
    matched(
        Identity {
            namespace: Some(parts.prefix.into()),
            function: Some(parts.suffix.into()),
            ..function("openwhisk", confidence)
        },
        why,
    )
}

/// `user-action-pod=true` on the pod, confirmed by the container, which is called `user-action`. The action is in
/// labels that are patched after creation, else in the pod's name as far as that can be taken apart.
pub fn pod(container: &Container, _: &IdentityConfig) -> Verdict {
    if pod_label(container, "user-action-pod") != Some("true") {
        return Verdict::Pass { why: "pod label user-action-pod is not true".into() };
    }
    if container_name(container).is_some_and(|called| called != "user-action") {
        return of_the_pod(container, "another container of an action's pod, by its name");
    }
    let sure = pod_label(container, "invoker").is_some();
    let instance_name = pod_name(container).map(ToOwned::to_owned);
    let of = |confidence| Identity {
        instance_name: instance_name.clone(),
        ..function("openwhisk", if sure { confidence } else { Confidence::Guessed })
    };
    if let Some(action) = pod_label(container, "openwhisk/action") {
        let namespace = pod_label(container, "openwhisk/namespace").map(Into::into);
        let identity = Identity { namespace, function: Some(action.into()), ..of(Confidence::Exact) };
        return matched(identity, "pod labels openwhisk/action and openwhisk/namespace name it");
    }
    let named = pod_name(container).and_then(split_pod);
    match named {
        Some((first, rest)) if first != "prewarm" => {
            let confidence = if rest.contains('-') { Confidence::Guessed } else { Confidence::Lossy };
            let identity =
                Identity { namespace: Some(first.into()), function: Some(rest.into()), ..of(confidence) };
            matched(
                identity,
                "the pod's name holds namespace and action in small letters without punctuation",
            )
        }
        _ => {
            let kind = named.map(|(_, suffix)| kind(container, suffix));
            let waiting = Identity { confidence: Confidence::Prewarm, ..of(Confidence::Prewarm) };
            pool(waiting, kind.as_deref(), "an action's pod whose action is not known yet")
        }
    }
}

/// The runtime kind that a name's `suffix` (`nodejs20`) stands for: as the image (`action-nodejs-v20`) writes it, where
/// that is the same (`nodejs:20`), else as it is.
fn kind(container: &Container, suffix: &str) -> String {
    let image = container.image.as_deref().map(|image| image::ImageRef::new(image).base_name());
    let parts = image.and_then(|base| base.strip_prefix("action-")?.rsplit_once("-v"));
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    match parts {
        Some((language, version)) if plain(&format!("{language}{version}")) == plain(suffix) => {
            format!("{language}:{version}")
        }
        _ => suffix.into(),
    }
}

/// What a pod's name `wsk…-<n>-<first>-<rest>` ends in. The invoker's own name may end in a number too.
fn split_pod(name: &str) -> Option<(&str, &str)> {
    let mut rest = name.strip_prefix("wsk")?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mut numbered = false;
    loop {
        let (part, behind) = rest.split_once('-')?;
        match (is_number(part), numbered) {
            (false, true) => return (!part.is_empty() && !behind.is_empty()).then_some((part, behind)),
            (number, _) => numbered = number,
        }
        rest = behind;
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

    #[test]
    fn pods_are_taken_apart_as_far_as_they_can_be() {
        for (name, parts) in [
            ("wskowdev-invoker-00-3-prewarm-nodejs20", Some(("prewarm", "nodejs20"))),
            ("wskowdev-invoker-00-12-guest-hello", Some(("guest", "hello"))),
            ("wsk0-12-guest-my-action", Some(("guest", "my-action"))),
            ("wsk0-12-guest", None),
            ("wsk0-12", None),
            ("owdev-12-guest-hello", None),
            ("wsk--", None),
        ] {
            assert_eq!(split_pod(name), parts, "{name}");
        }
    }

    #[test]
    fn kinds_are_those_of_the_image_where_it_says_so() {
        for (image, suffix, expected) in [
            (Some("openwhisk/action-nodejs-v20:nightly"), "nodejs20", "nodejs:20"),
            (Some("openwhisk/action-python-v3.10:1"), "python310", "python:3.10"),
            (Some("openwhisk/action-python-v3.10:1"), "python311", "python311"),
            (Some("someone/image"), "nodejs20", "nodejs20"),
            (None, "nodejs20", "nodejs20"),
        ] {
            let container = Container { image: image.map(Into::into), ..Container::default() };
            assert_eq!(kind(&container, suffix), expected, "{image:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_pod_is_split_or_not(name in "(wsk)?[wsk0-9\\-é]*") {
            if let Some((first, rest)) = split_pod(&name) {
                let end = format!("-{first}-{rest}");
                proptest::prop_assert!(name.ends_with(&end));
            }
        }

        #[test]
        fn any_name_is_split_or_not(name in "(wsk)?[wsk0-9_.\\-é]*") {
            if let Some(parts) = split(&name) {
                let end = format!("_{}_{}", parts.prefix, parts.suffix);
                proptest::prop_assert!(name.ends_with(&end));
            }
        }
    }
}
