//! Why a question has no answer, and what to ask instead.

use std::collections::{BTreeSet, HashMap};

use thiserror::Error;

use super::selector::{FunctionId, Part, Selector};

/// A question that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueryError {
    /// No such function.
    #[error("no function `{wanted}`{}", hint(.near, .known))]
    NoFunction {
        /// What was asked for.
        wanted: String,
        /// Names that look like it, the nearest first.
        near: Vec<String>,
        /// Names there are.
        known: Vec<String>,
    },
    /// The function is there, that revision is not.
    #[error("no revision `{wanted}` of function `{function}`; there are {}", listed(.known))]
    NoRevision {
        /// The function.
        function: String,
        /// What was asked for.
        wanted: String,
        /// Revisions there are.
        known: Vec<String>,
    },
    /// More than one function has such a name.
    #[error("`{wanted}` is more than one function; write one of\n  {}", .candidates.join("\n  "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// Full names of those it could be.
        candidates: Vec<String>,
    },
    /// No such instance.
    #[error("no instance `{wanted}` in that window; `fnscope instances` lists them")]
    NoInstance {
        /// What was asked for.
        wanted: String,
    },
    /// No such host.
    #[error("no host `{wanted}` in that window; there are {}", listed(.known))]
    NoHost {
        /// What was asked for.
        wanted: String,
        /// Hosts there are.
        known: Vec<String>,
    },
}

/// Most names that a message lists.
const MAX_LISTED: usize = 20;

impl QueryError {
    /// Whether `selector` means one function of `functions`, and a revision that it has.
    pub(super) fn check(selector: &Selector, functions: &[FunctionId]) -> Result<(), QueryError> {
        let named: Vec<&FunctionId> = functions.iter().filter(|id| selector.matches_function(id)).collect();
        let candidates: BTreeSet<String> = named.iter().map(|id| id.any_revision().to_string()).collect();
        let Some(function) = candidates.first() else {
            return Err(no_function(selector, functions));
        };
        if candidates.len() > 1 {
            let with_revision = |name: String| match &selector.revision {
                Some(revision) => format!("{name}@{revision}"),
                None => name,
            };
            let candidates = candidates.into_iter().map(with_revision).collect();
            return Err(QueryError::Ambiguous { wanted: selector.to_string(), candidates });
        }
        match &selector.revision {
            Some(wanted) if !named.iter().any(|id| id.revision == *wanted) => {
                let known: BTreeSet<String> = named.iter().map(|id| id.revision.to_string()).collect();
                Err(QueryError::NoRevision {
                    function: function.clone(),
                    wanted: wanted.to_string(),
                    known: known.into_iter().collect(),
                })
            }
            _ => Ok(()),
        }
    }
}

fn no_function(selector: &Selector, functions: &[FunctionId]) -> QueryError {
    let wanted = selector.function.to_string().to_lowercase();
    let names = shortest_names(functions);
    let mut near: Vec<(usize, &String)> = Vec::new();
    for (id, shortest) in functions.iter().zip(&names) {
        let name = id.function.to_string().to_lowercase();
        let distance = strsim::damerau_levenshtein(&wanted, &name);
        let close = distance <= 1 + wanted.len() / 4 || (wanted.len() > 2 && name.contains(&wanted));
        if close && distance < name.len().max(wanted.len()) {
            near.push((distance, shortest));
        }
    }
    near.sort();
    near.dedup();
    let near = near.into_iter().map(|(_, name)| name.clone()).take(3).collect();
    let known: BTreeSet<String> = names.into_iter().collect();
    QueryError::NoFunction { wanted: selector.to_string(), near, known: known.into_iter().collect() }
}

/// For each of `functions` the shortest name that means no other of them, whatever its revision.
pub fn shortest_names(functions: &[FunctionId]) -> Vec<String> {
    let mut bare: HashMap<&Part, Option<(&Part, &Part)>> = HashMap::new();
    let mut within: HashMap<(&Part, &Part), Option<&Part>> = HashMap::new();
    for id in functions {
        let whole = (&id.platform, &id.namespace);
        let known = bare.entry(&id.function).or_insert(Some(whole));
        *known = known.filter(|known| *known == whole);
        let known = within.entry((&id.namespace, &id.function)).or_insert(Some(&id.platform));
        *known = known.filter(|known| *known == &id.platform);
    }
    let name = |id: &FunctionId| {
        let full = id.any_revision();
        let shorter = if id.function == Part::Null {
            full
        } else if bare.get(&id.function).is_some_and(Option::is_some) {
            Selector { platform: None, namespace: None, ..full }
        } else if within.get(&(&id.namespace, &id.function)).is_some_and(Option::is_some) {
            Selector { platform: None, ..full }
        } else {
            full
        };
        shorter.to_string()
    };
    functions.iter().map(name).collect()
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(MAX_LISTED) {
        _ if names.is_empty() => "none".into(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn hint(near: &[String], known: &[String]) -> String {
    let near_text = near.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
    match (near.is_empty(), known.is_empty()) {
        (_, true) => "; there is no function at all in that window".into(),
        (true, false) => format!("; there are {}", listed(known)),
        (false, false) => format!("; did you mean {near_text}? There are {}", listed(known)),
    }
}
