//! Which function a container is: the answer, not the way to it.

use serde::{Deserialize, Serialize};

/// How sure a rule is of its answer. Kinds are added at the end: a journal's bytes hold their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// The platform's own marker named it.
    Exact,
    /// Named by a form that loses characters (OpenWhisk's container names).
    Lossy,
    /// Unique ids, but not the names people gave.
    IdsOnly,
    /// The application is known, which of its functions is not.
    AppLevel,
    /// The best there was, not the platform's word.
    Guessed,
    /// A waiting container that is no function yet.
    Prewarm,
    /// Every container counts because the user asked for it (`functions = "all"`).
    Fallback,
    /// No rule matched.
    None,
    /// Several functions run in it at a time: what is measured of it is no single one's.
    Ambiguous,
}

/// What is known of a container's function. All names are bounded to 253 bytes; they may hold any character and are
/// escaped where they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Whether it is to be profiled as a function.
    pub function_container: bool,
    /// The platform (`openfaas-swarm`, `nuclio`, `custom`, `local`, …); none where no rule matched.
    pub platform: Option<String>,
    /// The platform's namespace.
    pub namespace: Option<String>,
    /// The function.
    pub function: Option<String>,
    /// Its revision (version, image, deployment stamp: whatever tells one deployed code from the next).
    pub revision: Option<String>,
    /// The platform's own name of this container (task, pod); none where the container's id must do.
    pub instance_name: Option<String>,
    /// How sure.
    pub confidence: Confidence,
    /// The rule that decided, by name.
    pub rule: String,
}

impl Identity {
    /// The rule by which a process in a container of OpenWhisk's names it.
    pub const OPENWHISK_CHILD: &'static str = "openwhisk-child";
    /// The rule by which processes in a pod of Fission's pool name it.
    pub const FISSION_CHILD: &'static str = "fission-child";

    /// Whether its processes, which are its tenant's, have said what it is, and its platform has not: that may still
    /// say otherwise.
    pub fn is_childs_word(&self) -> bool {
        let doubtful = [Confidence::Guessed, Confidence::Ambiguous].contains(&self.confidence);
        doubtful && [Identity::OPENWHISK_CHILD, Identity::FISSION_CHILD].contains(&self.rule.as_str())
    }

    /// Whether what its processes are told may still name it otherwise: a waiting container that is no function yet, a
    /// name that lost characters. What OpenWhisk's said first stays; Fission's may serve requests to another function.
    pub fn is_told_by_children(&self) -> bool {
        self.function_container
            && match self.confidence {
                Confidence::Prewarm | Confidence::Lossy => true,
                Confidence::Guessed => match self.platform.as_deref() {
                    Some("openwhisk") => !self.is_childs_word(),
                    Some("fission") => self.is_childs_word(),
                    _ => false,
                },
                // Such as the Fn Project calls its containers: ids of 26 characters.
                Confidence::Fallback => self.function.as_ref().is_some_and(|name| name.len() == 26),
                _ => false,
            }
    }

    /// Platform of what no runtime has named yet.
    pub const UNKNOWN_PLATFORM: &'static str = "unknown";
    /// Longest name in bytes.
    pub const MAX_NAME: usize = 253;

    /// No function: rule `rule` says so.
    pub fn not_a_function(rule: &str) -> Identity {
        Identity {
            function_container: false,
            platform: None,
            namespace: None,
            function: None,
            revision: None,
            instance_name: None,
            confidence: Confidence::None,
            rule: rule.into(),
        }
    }
}

/// `name` cut to [`Identity::MAX_NAME`] bytes at a character boundary.
pub fn bounded_name(name: &str) -> String {
    let mut end = name.len().min(Identity::MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].into()
}
