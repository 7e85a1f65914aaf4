//! The host of a sealed hour: who wrote it, and what its rings saw and lost.

use super::decode::Fault;
use super::read::SealedHour;
use super::schema::Table;
use super::sums::Sums;
use crate::model::{CpuStats, OwnUse, Timestamp, WriterInfo};

/// A host in an hour.
#[derive(Debug, Clone)]
pub struct SealedHost {
    /// Who wrote it. Where the table is damaged: the node's name and the period alone.
    pub writer: WriterInfo,
    /// Samples that each CPU's ring read and lost.
    pub cpus: Vec<CpuStats>,
    /// Samples of container cgroups that could be given to no instance.
    pub unattributed: u64,
    /// Realtime minus monotonic clock in nanoseconds, at the hour's begin and end.
    pub clock_offsets_ns: Option<(i64, i64)>,
    /// What the writer used in that hour, and the most memory it held.
    pub own_use: Option<OwnUse>,
}

impl SealedHost {
    /// Of which no more is known than what checksums stand beside.
    pub(super) fn unknown(sums: &Sums) -> SealedHost {
        let writer = WriterInfo {
            node: sums.node.clone(),
            boot_id: String::new(),
            writer: String::new(),
            version: String::new(),
            kernel: String::new(),
            cpu_model: None,
            cpus: 0,
            // Samples that stand for no time are of no clock, whatever they are of.
            event: if sums.period_ns > 0 { String::new() } else { "unknown".into() },
            hz: 0,
            period_ns: sums.period_ns,
            started_at: Timestamp(0),
        };
        SealedHost { writer, cpus: Vec::new(), unattributed: 0, clock_offsets_ns: None, own_use: None }
    }
}

impl SealedHour {
    pub(super) fn read_host(&self) -> Result<SealedHost, Fault> {
        let file = self.open(Table::Hosts)?;
        let incomplete = || Fault::Damaged { offset: 0, what: "has no row that makes a host".into() };
        let text = |name: &str| -> Result<Option<String>, Fault> {
            Ok(file.text_options(0, name)?.into_iter().next().flatten())
        };
        let int = |name: &str| -> Result<Option<i64>, Fault> {
            Ok(file.int_options(0, name)?.into_iter().next().flatten())
        };
        let whole = |name: &str| -> Result<u64, Fault> {
            int(name)?.and_then(|value| u64::try_from(value).ok()).ok_or_else(incomplete)
        };
        let used = |name: &str| -> Result<Option<u64>, Fault> {
            Ok(int(name)?.and_then(|value| u64::try_from(value).ok()))
        };
        let word = |name: &str| -> Result<String, Fault> { text(name)?.ok_or_else(incomplete) };
        let short = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        if file.groups() == 0 {
            return Err(incomplete());
        }
        let writer = WriterInfo {
            node: word("node")?,
            boot_id: word("boot_id")?,
            writer: word("writer")?,
            version: word("version")?,
            kernel: word("kernel")?,
            cpu_model: text("cpu_model")?,
            cpus: short(whole("cpus")?),
            event: word("event")?,
            hz: short(whole("hz")?),
            period_ns: whole("period_ns")?,
            started_at: Timestamp(int("started_at")?.ok_or_else(incomplete)?),
        };
        let rings = text("rings")?.map(|text| serde_json::from_str(&text)).transpose();
        let offsets = int("clock_offset_first_ns")?.zip(int("clock_offset_last_ns")?);
        Ok(SealedHost {
            writer,
            cpus: rings.map_err(|_| incomplete())?.unwrap_or_default(),
            unattributed: whole("unattributed")?,
            clock_offsets_ns: offsets,
            own_use: used("agent_cpu_us")?
                .zip(used("agent_memory_bytes")?)
                .map(|(cpu_us, memory_bytes)| OwnUse { cpu_us, memory_bytes }),
        })
    }
}
