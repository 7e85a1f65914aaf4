//! The rules of the configuration, tried on a container. They stand above every platform's.

use super::config::UserRule;
use super::image;
use super::pod::{any_label, given_name, pod_name};
use super::rules::{Verdict, function, matched};
use crate::model::{Confidence, Container, Identity};

/// Whether `container` is what `rule` asks for, and what it is called then.
pub(super) fn decide(rule: &UserRule, container: &Container) -> Verdict {
    if let Err(why) = conditions(rule, container) {
        return Verdict::Pass { why };
    }
    let Some(template) = &rule.function else { return Verdict::Pass { why: "it names no function".into() } };
    let name = match template.fill(container) {
        Ok(name) => name,
        Err(why) => return Verdict::Pass { why: format!("it cannot name the function: {why}") },
    };
    let filled = |template: &Option<super::template::Template>| template.as_ref()?.fill(container).ok();
    let revision = match &rule.revision {
        Some(template) => template.fill(container).ok(),
        None => image::revision(container.image.as_deref()),
    };
    let platform = filled(&rule.platform);
    matched(
        Identity {
            namespace: filled(&rule.namespace),
            function: Some(name),
            revision,
            instance_name: pod_name(container).map(Into::into),
            ..function(platform.as_deref().unwrap_or("custom"), Confidence::Exact)
        },
        "the configuration names it",
    )
}

/// The first condition that does not hold, if any.
fn conditions(rule: &UserRule, container: &Container) -> Result<(), String> {
    for (key, glob) in &rule.labels {
        // Presence counts here, so an empty value is one.
        let value = any_label(container, key).or_else(|| container.label(key).filter(|v| v.is_empty()));
        match value {
            None => return Err(format!("label {key} is absent")),
            Some(value) if !glob.matches(value) => return Err(format!("label {key} is not {:?}", glob.0)),
            Some(_) => {}
        }
    }
    for (key, glob) in &rule.env {
        match container.env(key) {
            None => return Err(format!("variable {key} is absent")),
            Some(value) if !glob.matches(value) => {
                return Err(format!("variable {key} is not {:?}", glob.0));
            }
            Some(_) => {}
        }
    }
    for (what, glob, value) in [
        ("image", &rule.image, container.image.as_deref()),
        ("container name", &rule.container, given_name(container)),
    ] {
        if let Some(glob) = glob
            && !value.is_some_and(|value| glob.matches(value))
        {
            return Err(format!("the {what} is not {:?}", glob.0));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{IdentityConfig, identify};

    fn config(text: &str) -> IdentityConfig {
        let config: IdentityConfig = toml::from_str(text).expect("it is TOML");
        assert_eq!(config.faults(), [""; 0], "{text}");
        config
    }

    fn container() -> Container {
        Container {
            runtime: "docker".into(),
            id: "77".into(),
            name: Some("fn-resize".into()),
            image: Some("registry/team-a/resize:7".into()),
            labels: vec![
                ("kind".into(), "function".into()),
                ("team".into(), "a".into()),
                ("mark".into(), String::new()),
                ("fnscope.function".into(), "labelled".into()),
            ],
            env: vec!["FN=resize".into(), "FN_FN_ID=1".into(), "FN_APP_ID=2".into()],
            ..Container::default()
        }
    }

    #[test]
    fn a_rule_names_what_it_matches_and_nothing_else() {
        for (conditions, matches) in [
            (r#"labels = { kind = "function" }"#, true),
            (r#"labels = { kind = "func*", team = "*", mark = "*" }"#, true),
            (r#"labels = { kind = "service" }"#, false),
            (r#"labels = { none = "*" }"#, false),
            (r#"image = "registry/team-*/*""#, true),
            (r#"image = "registry/team-b/*""#, false),
            (r#"container = "fn-*""#, true),
            (r#"container = "fn""#, false),
            (r#"env = { FN = "resize" }"#, true),
            (r#"env = { FN = "other" }"#, false),
            (r#"env = { ABSENT = "*" }"#, false),
            (r#"container = "fn-*", image = "other""#, false),
        ] {
            let text = format!(
                "env = [\"FN\", \"ABSENT\"]\nrules = [{{ {conditions}, name = \"mine\", platform = \"p-${{label:team}}\", \
                 namespace = \"${{label:none}}\", function = \"${{env:FN}}\", revision = \"${{image.tag}}\" }}]"
            );
            let answer = identify(&container(), &config(&text));
            let identity = answer.identity;
            if matches {
                assert_eq!(identity.rule, "user:mine", "{conditions}");
                assert_eq!(identity.platform.as_deref(), Some("p-a"));
                assert_eq!((identity.namespace, identity.function.as_deref()), (None, Some("resize")));
                assert_eq!(
                    (identity.revision.as_deref(), identity.confidence),
                    (Some("7"), Confidence::Exact)
                );
            } else {
                assert_eq!(identity.rule, "fnscope-labels", "{conditions}");
                let tried = answer.looked_at.iter().find(|looked| looked.rule == "user:mine");
                assert!(tried.is_some_and(|tried| !tried.matched && !tried.why.is_empty()), "{conditions}");
            }
        }
    }

    #[test]
    fn the_first_rule_that_can_name_the_function_decides() {
        let rules = config(
            "[[rules]]\ncontainer = \"*\"\nfunction = \"${label:absent}\"\n[[rules]]\ncontainer = \"*\"\nfunction = \"${name}\"",
        );
        let identity = identify(&container(), &rules).identity;
        assert_eq!((identity.rule.as_str(), identity.function.as_deref()), ("user:2", Some("fn-resize")));
        assert_eq!(identity.platform.as_deref(), Some("custom"));
        assert_eq!(identity.revision.as_deref(), Some("image:registry/team-a/resize:7"));
        let mut ignored = container();
        ignored.labels.push(("fnscope.ignore".into(), "true".into()));
        assert_eq!(identify(&ignored, &rules).identity.rule, "ignored");
    }
}
