//! The labels that are stored with an instance because the configuration asks for them (`keep_labels`). Not here: labels
//! that rules read, which are kept for the rules and stored by none.
//!
//! Promises: few of them, each bounded, always the same ones of the same container. They are a tenant's text: whoever
//! shows them escapes them, as names.

use super::IdentityConfig;
use super::glob::Glob;
use crate::model::identity::bounded_name;
use crate::model::{Container, Identity};

/// Most labels of a container.
pub const MAX_LABELS: usize = 16;

/// The labels of `container` and of its pod that `config` asks to keep, in order of name; of more than [`MAX_LABELS`]
/// the first. A container's own goes before its pod's of that name. Values are cut to [`Identity::MAX_NAME`] bytes.
pub fn kept_labels(container: &Container, config: &IdentityConfig) -> Vec<(String, String)> {
    let of_pod = container.pod.iter().flat_map(|pod| &pod.labels);
    let all = container.labels.iter().chain(of_pod);
    let asked = all.filter(|(name, _)| is_kept(name, &config.keep_labels));
    let mut labels: Vec<(String, String)> =
        asked.map(|(name, value)| (name.clone(), bounded_name(value))).collect();
    // Stable: of two with one name the container's stays.
    labels.sort_by(|(a, _), (b, _)| a.cmp(b));
    labels.dedup_by(|(later, _), (name, _)| later == name);
    labels.truncate(MAX_LABELS);
    labels
}

/// Whether `keep` asks for the label called `name`. A name longer than any that is stored is none: cut, it would be
/// another's.
pub(super) fn is_kept(name: &str, keep: &[Glob]) -> bool {
    name.len() <= Identity::MAX_NAME && keep.iter().any(|glob| glob.matches(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{identify, kept_with};
    use crate::model::Pod;
    use proptest::prelude::*;

    fn config(keep: &[&str]) -> IdentityConfig {
        let keep_labels = keep.iter().map(|name| Glob((*name).into())).collect();
        let config = IdentityConfig { keep_labels, ..IdentityConfig::default() };
        assert_eq!(config.faults(), [""; 0]);
        config
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn labels_that_were_asked_for_are_kept_in_order_and_no_others() {
        let labels =
            [("zone", "z"), ("app.name", "n"), ("team", "a"), ("app", "x"), ("secret", "s"), ("app.", "")];
        let pod =
            Pod { labels: pairs(&[("team", "pod's"), ("tier", "p"), ("secret", "s")]), ..Pod::default() };
        let whole = Container { labels: pairs(&labels), pod: Some(pod), ..Container::default() };
        for (keep, expected) in [
            (&[][..], &[][..]),
            (&["team"], &[("team", "a")]),
            (&["team", "tier", "none"], &[("team", "a"), ("tier", "p")]),
            (&["app.*"], &[("app.", ""), ("app.name", "n")]),
            (&["app*", "app.name"], &[("app", "x"), ("app.", ""), ("app.name", "n")]),
        ] {
            let config = config(keep);
            let cut = kept_with(whole.clone(), &config.keys());
            assert_eq!(kept_labels(&cut, &config), pairs(expected), "{keep:?}");
        }
    }

    #[test]
    fn many_and_long_labels_are_few_and_short_and_crowd_no_rule_out() {
        let config = config(&["*"]);
        let mut labels: Vec<_> = (0..1_000).map(|n| (format!("a{n:03}"), "v".repeat(4_096))).collect();
        labels.push(("n".repeat(254), "too long a name".into()));
        labels.push(("fnscope.function".into(), "f".into()));
        let cut = kept_with(Container { labels, ..Container::default() }, &config.keys());
        assert_eq!(identify(&cut, &config).identity.function.as_deref(), Some("f"));
        let kept = kept_labels(&cut, &config);
        assert_eq!(kept.len(), MAX_LABELS);
        assert_eq!((kept[15].0.as_str(), kept[15].1.len()), ("a015", Identity::MAX_NAME));
    }

    proptest! {
        #[test]
        fn any_labels_are_bounded_and_the_same_cut_or_whole(
            mut labels in proptest::collection::vec((".{0,300}", ".{0,300}"), 0..40),
            keep in proptest::collection::vec("[a-c.]{1,2}[*]?|[*]", 0..4),
        ) {
            labels.sort();
            labels.dedup_by(|(later, _), (name, _)| later == name);
            let keep: Vec<&str> = keep.iter().map(String::as_str).collect();
            let config = config(&keep);
            let whole = Container { labels, ..Container::default() };
            let cut = kept_with(whole.clone(), &config.keys());
            let kept = kept_labels(&cut, &config);
            prop_assert_eq!(&kept, &kept_labels(&whole, &config));
            prop_assert!(kept.len() <= MAX_LABELS && kept.is_sorted());
            let short = |text: &String| text.len() <= Identity::MAX_NAME;
            prop_assert!(kept.iter().all(|(name, value)| short(name) && short(value)));
        }
    }
}
