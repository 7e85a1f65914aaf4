//! Instances whose stacks cannot be seen from the host: how many of a function, and what hides them.

use std::collections::{BTreeMap, BTreeSet};

use super::merge::Instance;
use super::selector::FunctionId;
use super::view::{Selection, View};
use crate::model::{Fact, Isolation};

/// What of a selection cannot be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Instances that cannot be seen, by what hides them.
    pub by: BTreeMap<Isolation, u64>,
    /// Handlers that run them, as their runtimes call them.
    pub handlers: BTreeSet<String>,
    /// Functions they are of.
    pub functions: BTreeSet<String>,
    /// All instances of the selection.
    pub instances: u64,
}

impl Unseen {
    /// How many instances cannot be seen.
    pub fn count(&self) -> u64 {
        self.by.values().sum()
    }
}

/// What of `selection` cannot be seen; none where all of it can.
pub fn unseen(view: &View, selection: &Selection) -> Option<Unseen> {
    let (mut found, mut seen) = (Unseen::default(), BTreeSet::new());
    for (at, instance, _, stay) in view.stays(selection) {
        let isolation = instance.unseen();
        if isolation.is_some() {
            found.functions.extend(view.functions().get(stay.function as usize).map(FunctionId::to_string));
        }
        if !seen.insert(at) {
            continue;
        }
        found.instances += 1;
        if let Some(isolation) = isolation {
            *found.by.entry(isolation).or_default() += 1;
            found.handlers.extend(instance.handler().map(str::to_owned));
        }
    }
    Some(found).filter(|found| !found.by.is_empty())
}

impl Instance {
    /// What hides its stacks, where anything does.
    pub fn unseen(&self) -> Option<Isolation> {
        self.facts.iter().rev().find_map(|(_, fact)| match fact {
            Fact::Unseen(isolation) => Some(*isolation),
            _ => None,
        })
    }

    /// What runs it below its runtime.
    pub fn handler(&self) -> Option<&str> {
        self.facts.iter().rev().find_map(|(_, fact)| match fact {
            Fact::RuntimeHandler(handler) => Some(handler.as_str()),
            _ => None,
        })
    }
}
