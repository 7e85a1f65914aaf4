//! Where sealed samples ran: thread, its name, CPU. Read only for questions that ask.

use std::collections::HashMap;
use std::sync::Arc;

use super::decode::{Fault, TableFile};
use crate::model::frame;

/// Where a sample ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedThread {
    /// Process, as the host saw it; 0 where that is not known.
    pub pid: u32,
    /// Thread, likewise.
    pub tid: u32,
    /// Position of its name among the names read.
    pub comm: u32,
    /// CPU, likewise.
    pub cpu: u16,
}

/// The columns of a row group.
pub(super) struct Threads {
    pids: Vec<Option<i64>>,
    tids: Vec<Option<i64>>,
    comms: Vec<u32>,
    cpus: Vec<Option<i32>>,
}

impl Threads {
    /// Reads them; new names are added to `names`.
    pub(super) fn read(file: &TableFile, group: usize, names: &mut Vec<Arc<str>>) -> Result<Threads, Fault> {
        let mut known: HashMap<String, u32> = HashMap::new();
        let mut number = |name: Option<String>| {
            let name = name.unwrap_or_else(|| frame::LOST.into());
            if let Some(number) = known.get(&name) {
                return *number;
            }
            let number = names.len() as u32;
            names.push(name.as_str().into());
            known.insert(name, number);
            number
        };
        Ok(Threads {
            pids: file.int_options(group, "pid")?,
            tids: file.int_options(group, "tid")?,
            comms: file.text_options(group, "comm")?.into_iter().map(&mut number).collect(),
            cpus: file.short_options(group, "cpu")?,
        })
    }

    /// Where the sample in `row` ran.
    pub(super) fn of(&self, row: usize) -> SealedThread {
        let id = |column: &[Option<i64>]| {
            column.get(row).copied().flatten().and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
        };
        let cpu = self.cpus.get(row).copied().flatten().and_then(|cpu| u16::try_from(cpu).ok());
        SealedThread {
            pid: id(&self.pids),
            tid: id(&self.tids),
            comm: self.comms.get(row).copied().unwrap_or(u32::MAX),
            cpu: cpu.unwrap_or(0),
        }
    }
}
