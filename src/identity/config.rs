//! What the user decides about identities: which containers count, rules of their own, which namespaces to leave out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::glob::Glob;
use super::isolation::IsolationConfig;
use super::markers::{ENV_ALLOW_LIST, Keys};
use super::template::Template;
use crate::model::Identity;

/// Which containers count as functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Functions {
    /// Those that a function platform, the configuration or fnscope's own labels mark.
    #[default]
    Labelled,
    /// Every container; those without a mark by their compose or swarm service, else by their name.
    All,
}

/// What the user decides about identities: the section `[identity]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Which containers count as functions. Given outside of the section.
    #[serde(skip)]
    pub functions: Functions,
    /// Which handlers put a container behind a kernel of its own. Given outside of the section.
    #[serde(skip)]
    pub isolation: IsolationConfig,
    /// Environment variables that [`UserRule`]s may read, beside those that platforms' rules do. No other is kept.
    pub env: Vec<String>,
    /// Only functions of these namespaces count; of all if it is empty. A function without a namespace has the empty
    /// one.
    pub allow_namespaces: Vec<Glob>,
    /// Functions of these namespaces do not count.
    pub deny_namespaces: Vec<Glob>,
    /// Labels that are stored with each instance: names, or their begins with a `*` behind. None unless given.
    pub keep_labels: Vec<Glob>,
    /// Rules that stand above every platform's, in order.
    pub rules: Vec<UserRule>,
}

/// A rule of the configuration: what a container must be like, and what it is called then.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserRule {
    /// Its name, which is stored as `user:NAME`; its number, counted from 1, unless given.
    pub name: Option<String>,
    /// Labels of the container or its pod that must be there and be so; `*` is any value.
    pub labels: BTreeMap<String, Glob>,
    /// The image, as it was asked for.
    pub image: Option<Glob>,
    /// The container's name, on Kubernetes that in its pod.
    pub container: Option<Glob>,
    /// Environment variables that must be there and be so.
    pub env: BTreeMap<String, Glob>,
    /// The platform; `custom` unless given.
    pub platform: Option<Template>,
    /// The namespace.
    pub namespace: Option<Template>,
    /// The function.
    pub function: Option<Template>,
    /// The revision; the image's unless given.
    pub revision: Option<Template>,
}

/// Most rules, variables and namespaces: each is tried on every container.
const MAX_LISTED: usize = 256;

impl IdentityConfig {
    /// Every fault of it, all at once; empty if there is none.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (what, len) in [
            ("env", self.env.len()),
            ("allow_namespaces", self.allow_namespaces.len()),
            ("deny_namespaces", self.deny_namespaces.len()),
            ("keep_labels", self.keep_labels.len()),
            ("rules", self.rules.len()),
        ] {
            if len > MAX_LISTED {
                faults.push(format!("identity.{what} has {len} entries; give at most {MAX_LISTED}"));
            }
        }
        for key in &self.env {
            if key.is_empty() || key.contains(['=', '\0', '*']) {
                faults.push(format!("identity.env has {key:?}; give names of variables in full"));
            }
        }
        for Glob(name) in &self.keep_labels {
            if name.is_empty() || name.strip_suffix('*').unwrap_or(name).contains('*') {
                faults.push(format!(
                    "identity.keep_labels has {name:?}; give names of labels, such as \"team\" or \"app.*\""
                ));
            }
        }
        let mut names = Vec::new();
        for (at, rule) in self.rules.iter().enumerate() {
            let name = rule.title(at);
            faults
                .extend(rule.faults(self).into_iter().map(|fault| format!("identity.rules {name}: {fault}")));
            if names.contains(&name) {
                faults.push(format!("identity.rules has two rules called {name}; give each its own name"));
            }
            names.push(name);
        }
        faults
    }

    /// What its rules read of containers beside what platforms' rules do, and the labels to be stored.
    pub fn keys(&self) -> Keys {
        let labels = self.rules.iter().flat_map(|rule| {
            rule.labels.keys().map(String::as_str).chain(rule.templates().flat_map(|(_, t)| t.labels()))
        });
        let mut labels: Vec<String> = labels.map(Into::into).collect();
        labels.sort_unstable();
        labels.dedup();
        Keys { labels, env: self.env.clone(), keep: self.keep_labels.clone() }
    }

    /// Why functions of `namespace` do not count, where they do not: the rule that says so, and why.
    pub(super) fn refuses(&self, namespace: Option<&str>) -> Option<(&'static str, String)> {
        let namespace = namespace.unwrap_or_default();
        let shown: String = namespace.chars().take(64).collect();
        if let Some(glob) = self.deny_namespaces.iter().find(|glob| glob.matches(namespace)) {
            return Some(("deny-namespaces", format!("namespace {shown:?} is denied by {:?}", glob.0)));
        }
        if !self.allow_namespaces.is_empty()
            && !self.allow_namespaces.iter().any(|glob| glob.matches(namespace))
        {
            return Some(("allow-namespaces", format!("namespace {shown:?} is none of those allowed")));
        }
        None
    }
}

impl UserRule {
    /// Its name: given, or its number.
    pub(super) fn title(&self, at: usize) -> String {
        self.name.clone().unwrap_or_else(|| (at + 1).to_string())
    }

    fn templates(&self) -> impl Iterator<Item = (&'static str, &Template)> {
        [
            ("platform", &self.platform),
            ("namespace", &self.namespace),
            ("function", &self.function),
            ("revision", &self.revision),
        ]
        .into_iter()
        .filter_map(|(what, template)| Some((what, template.as_ref()?)))
    }

    fn faults(&self, config: &IdentityConfig) -> Vec<String> {
        let mut faults = Vec::new();
        let max = Identity::MAX_NAME - "user:".len();
        if self.name.as_ref().is_some_and(|name| name.is_empty() || name.len() > max) {
            faults.push(format!("its name is empty or longer than {max} bytes"));
        }
        if self.labels.is_empty() && self.env.is_empty() && self.image.is_none() && self.container.is_none() {
            faults.push("it matches on nothing; give labels, image, container or env".into());
        }
        if self.function.is_none() {
            faults.push("it names no function; give function, such as \"${name}\"".into());
        }
        for (what, template) in self.templates() {
            faults.extend(template.fault().map(|fault| format!("{what}: {fault}")));
        }
        let mut read: Vec<&str> =
            self.env.keys().map(String::as_str).chain(self.templates().flat_map(|(_, t)| t.env())).collect();
        read.sort_unstable();
        read.dedup();
        let unlisted = |key: &&str| !ENV_ALLOW_LIST.contains(key) && !config.env.iter().any(|k| k == key);
        for key in read.into_iter().filter(unlisted) {
            faults.push(format!("it reads variable {key}, which is not kept; name it in identity.env"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_told_at_once() {
        let text = r#"
            env = ["OK", "A=B"]
            keep_labels = ["team", "*", "app.*", "a*b", ""]
            [[rules]]
            function = "${nonsense}"
            namespace = "${label:team"
            [[rules]]
            name = "x"
            labels = { a = "*" }
            [[rules]]
            name = "x"
            env = { SECRET = "1", OK = "*", K_SERVICE = "*" }
            function = "${env:OTHER}"
        "#;
        let config: IdentityConfig = toml::from_str(text).expect("it is TOML");
        let faults = config.faults();
        for says in [
            "identity.env has \"A=B\"",
            "identity.keep_labels has \"a*b\"",
            "identity.keep_labels has \"\"",
            "rules 1: it matches on nothing",
            "rules 1: function: \"${nonsense}\": `${nonsense}` is unknown",
            "rules 1: namespace: \"${label:team\": `${` without `}`",
            "rules x: it names no function",
            "two rules called x",
            "rules x: it reads variable OTHER",
            "rules x: it reads variable SECRET",
        ] {
            assert!(faults.iter().any(|fault| fault.contains(says)), "{says} in {faults:#?}");
        }
        assert_eq!(faults.len(), 10, "{faults:#?}");
        assert!(IdentityConfig::default().faults().is_empty());
        for unknown in ["colour = 1", "[[rules]]\nlabel = {}", "functions = \"all\"", "env = 7"] {
            assert!(toml::from_str::<IdentityConfig>(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn what_rules_read_is_kept() {
        let text = "env = [\"FN\"]\nkeep_labels = [\"t*\"]\n[[rules]]\nlabels = { b = \"1\" }\nfunction = \"${label:a}/${label:b}/${env:FN}\"";
        let config: IdentityConfig = toml::from_str(text).expect("it is TOML");
        let keep = vec![Glob("t*".into())];
        assert_eq!(
            config.keys(),
            Keys { labels: vec!["a".into(), "b".into()], env: vec!["FN".into()], keep }
        );
        assert_eq!(config.faults(), [""; 0]);
    }
}
