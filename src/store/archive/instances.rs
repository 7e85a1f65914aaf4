//! The columns of the instances table, and a row of them: as what is known of an instance, and as totals of its samples.
//!
//! Not here: which rows are of one instance, and what is done where a file is damaged.

use std::collections::HashMap;

use super::decode::{Fault, TableFile};
use super::names;
use super::read::{Detail, SealedRow, SealedWaits};
use super::readings::Mark;
use super::rows::PhaseCuts;
use crate::model::{CgroupId, CpuSource, Identity, InstanceInfo, InstanceKey, QualityCounts, Timestamp};
use crate::store::contents::{Ended, InstanceRecord, Usage};

/// What a question needs of the instances table; a column that it did not ask for has no values.
#[derive(Default)]
pub(super) struct InstanceColumns {
    pub(super) keys: Vec<Option<String>>,
    texts: HashMap<&'static str, Vec<Option<String>>>,
    ints: HashMap<&'static str, Vec<Option<i64>>>,
    bools: HashMap<&'static str, Vec<Option<bool>>>,
    exit_codes: Vec<Option<i32>>,
    groups: Vec<Option<i32>>,
    wait_groups: Vec<Option<i32>>,
    lost: Vec<Option<f64>>,
}

impl InstanceColumns {
    pub(super) fn read(file: &TableFile, group: usize, detail: Detail) -> Result<InstanceColumns, Fault> {
        /// Who an instance is: a text each.
        const NAMES: &[&str] = &[
            "platform",
            "namespace",
            "function",
            "revision",
            "identity_confidence",
            "identity_rule",
            "container_id",
            "cgroup_path",
            "instance_name",
        ];
        const TEXTS: &[&str] = &["runtime", "image", "readings", "dropped", "facts"];
        /// Since when, and in which cgroup.
        const PLACES: &[&str] = &["identity_from", "cgroup_id", "started_at"];
        const INTS: &[&str] = &[
            "exec_at",
            "warm_at",
            "ended_at",
            "first_sample",
            "first_sample_after_exec",
            "last_sample",
            "samples",
            "complete",
            "short",
            "truncated",
            "guessed",
            "unsymbolized",
            "runtime_init_samples",
            "cold_samples",
            "warm_samples",
            "off_cpu_us",
            "off_cpu_count",
            "preempted_us",
            "first_wait",
            "last_wait",
        ];
        let mut columns =
            InstanceColumns { keys: file.text_options(group, "instance")?, ..InstanceColumns::default() };
        columns.add(file, group, NAMES, PLACES, &["function_container", "from_birth"])?;
        if detail > Detail::Names {
            columns.add(file, group, TEXTS, INTS, &["oom"])?;
            columns.exit_codes = file.short_options(group, "exit_code")?;
            columns.groups = file.short_options(group, "row_group")?;
            columns.wait_groups = file.short_options(group, "off_cpu_row_group")?;
            columns.lost = file.float_options(group, "lost")?;
        }
        Ok(columns)
    }

    fn add(
        &mut self,
        file: &TableFile,
        group: usize,
        texts: &[&'static str],
        ints: &[&'static str],
        bools: &[&'static str],
    ) -> Result<(), Fault> {
        for name in texts {
            self.texts.insert(name, file.text_options(group, name)?);
        }
        for name in ints {
            self.ints.insert(name, file.int_options(group, name)?);
        }
        for name in bools {
            self.bools.insert(name, file.bool_options(group, name)?);
        }
        Ok(())
    }

    fn text(&self, name: &str, row: usize) -> Option<String> {
        self.texts.get(name)?.get(row)?.clone()
    }

    fn int(&self, name: &str, row: usize) -> Option<i64> {
        self.ints.get(name)?.get(row).copied().flatten()
    }

    fn count(&self, name: &str, row: usize) -> u64 {
        self.int(name, row).and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
    }

    fn time(&self, name: &str, row: usize) -> Option<Timestamp> {
        self.int(name, row).map(Timestamp)
    }

    fn bool(&self, name: &str, row: usize) -> Option<bool> {
        self.bools.get(name)?.get(row).copied().flatten()
    }

    pub(super) fn warm_at(&self, row: usize) -> Option<Timestamp> {
        self.time("warm_at", row)
    }

    fn json<T: serde::de::DeserializeOwned + Default>(&self, name: &str, row: usize) -> T {
        self.text(name, row).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    fn marks(&self, row: usize) -> Vec<Mark> {
        let marks: Vec<(Timestamp, u64, CpuSource, u64, u64)> = self.json("readings", row);
        marks
            .into_iter()
            .map(|(at, cpu_us, source, before, until)| Mark { at, cpu_us, source, before, until })
            .collect()
    }

    /// What the row tells of the instance, its identity apart.
    pub(super) fn record(&self, row: usize, key: &str) -> Option<InstanceRecord> {
        let container_id = self.text("container_id", row)?;
        let info = InstanceInfo {
            key: InstanceKey(key.into()),
            runtime: self.text("runtime", row),
            cgroup_path: super::write::path_from(&self.text("cgroup_path", row)?, &container_id),
            container_id,
            cgroup_id: CgroupId(self.int("cgroup_id", row)? as u64),
            image: self.text("image", row),
            started_at: self.time("started_at", row)?,
            from_birth: self.bool("from_birth", row)?,
        };
        let mut record = InstanceRecord::new(info);
        record.exec_at = self.time("exec_at", row);
        record.ended = self.time("ended_at", row).map(|at| Ended {
            at,
            exit_code: self.exit_codes.get(row).copied().flatten(),
            oom: self.bool("oom", row).unwrap_or(false),
        });
        let marks = self.marks(row).into_iter();
        record.usage =
            marks.map(|mark| Usage { at: mark.at, cpu_us: mark.cpu_us, source: mark.source }).collect();
        record.dropped = self.json("dropped", row);
        record.facts = self.json("facts", row);
        Some(record)
    }

    pub(super) fn identity(&self, row: usize) -> Option<(Timestamp, Identity)> {
        let from = self.time("identity_from", row)?;
        let confidence = names::parse_confidence(&self.text("identity_confidence", row)?)?;
        let identity = Identity {
            function_container: self.bool("function_container", row)?,
            platform: self.text("platform", row),
            namespace: self.text("namespace", row),
            function: names::function(self.text("function", row), confidence),
            revision: self.text("revision", row),
            instance_name: self.text("instance_name", row),
            confidence,
            rule: self.text("identity_rule", row).unwrap_or_default(),
        };
        Some((from, identity))
    }

    pub(super) fn waits(&self, row: usize, instance: u32) -> Option<SealedWaits> {
        let count = self.count("off_cpu_count", row);
        Some(SealedWaits {
            instance,
            first: self.time("first_wait", row)?,
            last: self.time("last_wait", row)?,
            count: Some(count).filter(|count| *count > 0)?,
            us: self.count("off_cpu_us", row),
            preempted_us: self.count("preempted_us", row),
            group: u32::try_from(self.wait_groups.get(row).copied().flatten()?).ok()?,
        })
    }

    pub(super) fn counts(&self, row: usize, instance: u32, cuts: PhaseCuts) -> Option<SealedRow> {
        let samples = self.count("samples", row);
        Some(SealedRow {
            instance,
            cuts,
            first: self.time("first_sample", row)?,
            last: self.time("last_sample", row)?,
            first_after_exec: self.time("first_sample_after_exec", row),
            samples: Some(samples).filter(|samples| *samples > 0)?,
            lost: self.lost.get(row).copied().flatten().unwrap_or(0.0),
            quality: QualityCounts {
                complete: self.count("complete", row),
                short: self.count("short", row),
                truncated: self.count("truncated", row),
                guessed: self.count("guessed", row),
                unsymbolized: self.count("unsymbolized", row),
            },
            phases: ["runtime_init_samples", "cold_samples", "warm_samples"]
                .map(|name| self.count(name, row)),
            marks: self.marks(row),
            group: u32::try_from(self.groups.get(row).copied().flatten()?).ok()?,
        })
    }
}

/// What [`super::write::source`] wrote.
pub(super) fn parse_source(text: &str) -> Option<CpuSource> {
    [CpuSource::Final, CpuSource::Exit, CpuSource::Running]
        .into_iter()
        .find(|source| super::write::source(*source) == text)
}
