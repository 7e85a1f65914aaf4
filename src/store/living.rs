//! What a writer remembers of instances, so that the next journal can stand alone. Pure.
//!
//! Promises: bounded memory. Whoever ended is forgotten [`KEEP_ENDED`] after the last word about it (a late name or
//! exit status is such a word), or earlier when more than [`MAX_ENDED`] are kept.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::contents;
use crate::model::{Entry, IdMap, Identity, InstanceInfo, InstanceNo, Timestamp};

/// How long the ended are remembered. Whoever tells of instances has forgotten them after two minutes.
const KEEP_ENDED: Duration = Duration::from_secs(180);
/// How many of the ended are remembered: some seconds of the worst storm of starts, minutes of a usual one.
const MAX_ENDED: usize = 2_048;
/// How many changes of identity are told again, the latest.
const MAX_IDENTITIES: usize = 8;

#[derive(Debug)]
struct Known {
    info: InstanceInfo,
    identities: Vec<(Timestamp, Identity)>,
    exec: Option<Entry>,
    usage: Option<(Timestamp, Entry)>,
    /// The last of each kind, of which most have one or two.
    facts: Vec<Entry>,
    ended: Option<Entry>,
    /// The last word about it once it had ended.
    heard: Option<Instant>,
}

impl Known {
    fn new(info: InstanceInfo) -> Known {
        Known {
            info,
            identities: Vec::new(),
            exec: None,
            usage: None,
            facts: Vec::new(),
            ended: None,
            heard: None,
        }
    }
}

/// Instances a writer knows.
#[derive(Debug, Default)]
pub(super) struct Living {
    /// In boxes: a table from which as much is taken as is put in has room for several times what it holds.
    known: IdMap<InstanceNo, Box<Known>>,
    /// The ended, in order of a word about them; one may stand here more than once.
    ended: VecDeque<(Instant, InstanceNo)>,
}

impl Living {
    /// Takes in what was just written, at `now`.
    pub(super) fn learn(&mut self, entries: &[Entry], now: Instant) {
        for entry in entries {
            self.learn_one(entry, now);
        }
        while let Some(&(since, no)) = self.ended.front() {
            let latest = self.known.get(&no).and_then(|known| known.heard) == Some(since);
            if latest && now.saturating_duration_since(since) < KEEP_ENDED && self.ended.len() <= MAX_ENDED {
                break;
            }
            self.ended.pop_front();
            if latest {
                self.known.remove(&no);
            }
        }
    }

    /// All that has to be said again of `no` before it is used in another journal; empty if it is not known.
    pub(super) fn declaration(&self, no: InstanceNo) -> Vec<Entry> {
        let Some(known) = self.known.get(&no) else { return Vec::new() };
        let mut entries = vec![Entry::Instance { no, info: known.info.clone() }];
        entries.extend(known.identities.iter().map(|(from, identity)| Entry::Identity {
            no,
            from: *from,
            identity: identity.clone(),
        }));
        entries.extend(known.exec.clone());
        entries.extend(known.usage.clone().map(|(_, usage)| usage));
        entries.extend(known.facts.iter().cloned());
        entries.extend(known.ended.clone());
        entries
    }

    /// Those that have not ended, in order.
    pub(super) fn alive(&self) -> Vec<InstanceNo> {
        let mut alive: Vec<_> =
            self.known.iter().filter(|(_, known)| known.ended.is_none()).map(|(no, _)| *no).collect();
        alive.sort_unstable();
        alive
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn learn_one(&mut self, entry: &Entry, now: Instant) {
        let no = number(entry);
        if let Entry::Instance { info, .. } = entry {
            match self.known.get_mut(&no) {
                Some(known) => known.info = info.clone(),
                None => {
                    let info = info.clone();
                    self.known.insert(no, Box::new(Known::new(info)));
                }
            }
        }
        let Some(known) = self.known.get_mut(&no) else { return };
        match entry {
            Entry::Identity { from, identity, .. } => {
                contents::rename(&mut known.identities, *from, identity.clone());
                let old = known.identities.len().saturating_sub(MAX_IDENTITIES);
                known.identities.drain(..old);
            }
            Entry::Exec { .. } => {
                known.exec.get_or_insert_with(|| entry.clone());
            }
            Entry::Ended { .. } => known.ended = Some(entry.clone()),
            Entry::Usage { at, .. } if known.usage.as_ref().is_none_or(|(before, _)| before <= at) => {
                known.usage = Some((*at, entry.clone()));
            }
            Entry::Fact { at, fact, .. } => {
                let kind = fact.kind();
                let same =
                    |known: &&mut Entry| matches!(known, Entry::Fact { fact, .. } if fact.kind() == kind);
                match known.facts.iter_mut().find(same) {
                    Some(Entry::Fact { at: before, .. }) if *before > *at => {}
                    Some(newest) => *newest = entry.clone(),
                    None => {
                        known.facts.reserve_exact(1);
                        known.facts.push(entry.clone());
                    }
                }
            }
            Entry::Instance { .. } | Entry::Usage { .. } | Entry::Dropped { .. } => {}
        }
        if known.ended.is_some() && known.heard != Some(now) {
            known.heard = Some(now);
            self.ended.push_back((now, no));
        }
    }
}

/// Whom `entry` is about.
pub(super) fn number(entry: &Entry) -> InstanceNo {
    match entry {
        Entry::Instance { no, .. }
        | Entry::Identity { no, .. }
        | Entry::Exec { no, .. }
        | Entry::Ended { no, .. }
        | Entry::Usage { no, .. }
        | Entry::Dropped { no, .. }
        | Entry::Fact { no, .. } => *no,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::data::{ended, identity, instance};
    use super::*;

    #[test]
    fn the_ended_are_forgotten_in_time_and_in_number() {
        let (start, mut living) = (Instant::now(), Living::default());
        living.learn(&[instance(1), ended(1, 5), instance(2)], start);
        assert_eq!(living.alive(), [InstanceNo(2)]);
        let late = start + KEEP_ENDED - Duration::from_secs(1);
        living.learn(&[identity(1, 0, "late")], late);
        living.learn(&[], start + KEEP_ENDED + Duration::from_secs(1));
        assert_eq!(living.declaration(InstanceNo(1)).len(), 3, "a late word keeps it");
        living.learn(&[], late + KEEP_ENDED);
        assert!(living.declaration(InstanceNo(1)).is_empty());
        for no in 10..40_000 {
            living.learn(&[instance(no), ended(no, 5)], late + KEEP_ENDED + Duration::from_micros(no.into()));
        }
        assert!(living.len() <= MAX_ENDED + 2 && living.ended.len() <= MAX_ENDED + 2, "{}", living.len());
        assert_eq!(living.alive(), [InstanceNo(2)]);
    }
}
