//! The columns of the sealed tables. This is the frozen part of the format: columns are added at the end and are
//! nullable; none is renamed, retyped or given another meaning without a new [`crate::store::directory::FORMAT`].
//!
//! Times are microseconds in UTC. Counters are 64 bits, signed, because other engines have no other. What a column
//! means beyond its name is said in ARCHITECTURE.md.

use std::sync::Arc;

use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::schema::types::{ColumnPath, Type, TypePtr};

/// Most bytes of a dictionary: beyond it the writer would store each value by itself, and stacks are long.
pub(super) const DICTIONARY_BYTES: usize = 64 << 20;
/// Compression level. 1 costs a tenth more bytes, 9 twice the time.
pub(super) const ZSTD_LEVEL: i32 = 3;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Time,
    Int,
    Short,
    Float,
    Bool,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) nullable: bool,
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, nullable: false }
}

const fn nullable(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, nullable: true }
}

/// One of the sealed tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Samples,
    Instances,
    Usage,
    Hosts,
    OffCpu,
}

impl Table {
    pub(super) const ALL: [Table; 5] =
        [Table::Samples, Table::Instances, Table::Usage, Table::Hosts, Table::OffCpu];
    /// So many of them, the first, are in every set; the others where they have a row.
    pub(super) const ALWAYS: usize = 4;

    /// Its folder in the store.
    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Samples => "samples",
            Table::Instances => "instances",
            Table::Usage => "usage",
            Table::Hosts => "hosts",
            Table::OffCpu => "off_cpu",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Table::Samples => SAMPLES,
            Table::Instances => INSTANCES,
            Table::Usage => USAGE,
            Table::Hosts => HOSTS,
            Table::OffCpu => OFF_CPU,
        }
    }

    /// How many columns each of its files has. Others were added later: a file has all of those or none.
    pub(super) fn least_columns(self) -> usize {
        match self {
            Table::Instances => INSTANCES.len() - WAIT_COLUMNS,
            _ => self.columns().len(),
        }
    }

    /// The position of the column called `name`.
    pub(super) fn position(self, name: &str) -> Option<usize> {
        self.columns().iter().position(|column| column.name == name)
    }

    /// As Parquet describes its first `columns` columns.
    pub(super) fn schema(self, columns: usize) -> TypePtr {
        let fields = self.columns().iter().take(columns).map(|column| Arc::new(field(column))).collect();
        let group = Type::group_type_builder(self.name()).with_fields(fields).build();
        Arc::new(group.expect("a group of fields is a schema"))
    }

    /// How it is written.
    pub(super) fn properties(self) -> WriterPropertiesPtr {
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("fnscope {}", env!("CARGO_PKG_VERSION")))
            .set_compression(compression())
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES);
        for column in self.columns() {
            let path = ColumnPath::from(column.name);
            // No two waits are as long.
            if column.name == "time" || (self == Table::OffCpu && column.name == "weight_ns") {
                properties = properties
                    .set_column_dictionary_enabled(path, false)
                    .set_column_encoding(column.name.into(), Encoding::DELTA_BINARY_PACKED);
            } else if column.name == "stack" {
                // Its least and greatest would be two long texts that nobody looks for.
                properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
            }
        }
        Arc::new(properties.build())
    }
}

/// How all pages are compressed.
pub(super) fn compression() -> Compression {
    Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).expect("a level that zstd has"))
}

fn field(column: &Column) -> Type {
    let (physical, logical) = match column.kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        Kind::Int => (Physical::INT64, None),
        Kind::Short => (Physical::INT32, None),
        Kind::Float => (Physical::DOUBLE, None),
        Kind::Bool => (Physical::BOOLEAN, None),
    };
    let repetition = if column.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let builder = Type::primitive_type_builder(column.name, physical);
    let built = builder.with_logical_type(logical).with_repetition(repetition).build();
    built.expect("a logical type that fits its physical one")
}

use Kind::{Bool, Float, Int, Short, Text, Time};

/// A row a sample; sorted by function, then by time.
pub(super) const SAMPLES: &[Column] = &[
    column("time", Time),
    column("node", Text),
    nullable("platform", Text),
    nullable("namespace", Text),
    nullable("function", Text),
    nullable("revision", Text),
    column("instance", Text),
    column("phase", Text),
    nullable("pid", Int),
    nullable("tid", Int),
    nullable("comm", Text),
    nullable("cpu", Short),
    column("event", Text),
    column("stack", Text),
    column("quality", Short),
    column("count", Int),
    column("weight_ns", Int),
    nullable("lost", Float),
];

/// A row an instance, identity interval and hour.
pub(super) const INSTANCES: &[Column] = &[
    column("node", Text),
    nullable("platform", Text),
    nullable("namespace", Text),
    nullable("function", Text),
    nullable("revision", Text),
    column("instance", Text),
    nullable("identity_from", Time),
    nullable("identity_confidence", Text),
    nullable("identity_rule", Text),
    column("function_container", Bool),
    nullable("runtime", Text),
    nullable("runtime_handler", Text),
    column("container_id", Text),
    column("cgroup_path", Text),
    column("cgroup_id", Int),
    nullable("image", Text),
    nullable("instance_name", Text),
    column("started_at", Time),
    column("from_birth", Bool),
    nullable("exec_at", Time),
    nullable("ready_at", Time),
    nullable("warm_at", Time),
    nullable("ended_at", Time),
    nullable("exit_code", Short),
    nullable("oom", Bool),
    nullable("first_sample", Time),
    nullable("first_sample_after_exec", Time),
    nullable("last_sample", Time),
    column("samples", Int),
    column("sampled_us", Int),
    nullable("cpu_usage_us", Int),
    nullable("coverage_source", Text),
    nullable("throttled_count", Int),
    nullable("throttled_us", Int),
    nullable("pressure_us", Int),
    nullable("frozen_us", Int),
    column("lost", Float),
    column("truncated", Int),
    column("short", Int),
    column("guessed", Int),
    column("unsymbolized", Int),
    column("complete", Int),
    column("named", Int),
    column("runtime_init_samples", Int),
    column("cold_samples", Int),
    column("warm_samples", Int),
    nullable("runtime_init_cpu_us", Int),
    nullable("cold_cpu_us", Int),
    nullable("warm_cpu_us", Int),
    nullable("labels", Text),
    nullable("readings", Text),
    nullable("dropped", Text),
    nullable("facts", Text),
    nullable("row_group", Short),
    nullable("off_cpu_us", Int),
    nullable("off_cpu_count", Int),
    nullable("preempted_us", Int),
    nullable("first_wait", Time),
    nullable("last_wait", Time),
    nullable("off_cpu_row_group", Short),
];
/// The last of them, which a file has where somebody in it waited.
const WAIT_COLUMNS: usize = 6;

/// A row a reading of an instance's counters, each since its cgroup was made.
pub(super) const USAGE: &[Column] = &[
    column("time", Time),
    column("node", Text),
    nullable("platform", Text),
    nullable("namespace", Text),
    nullable("function", Text),
    nullable("revision", Text),
    column("instance", Text),
    nullable("cpu_us", Int),
    nullable("source", Text),
    nullable("throttled_count", Int),
    nullable("throttled_us", Int),
    nullable("pressure_us", Int),
    nullable("frozen", Bool),
];

/// A row a wait; sorted by function, then by time, which is when it was over.
pub(super) const OFF_CPU: &[Column] = &[
    column("time", Time),
    column("node", Text),
    nullable("platform", Text),
    nullable("namespace", Text),
    nullable("function", Text),
    nullable("revision", Text),
    column("instance", Text),
    column("phase", Text),
    nullable("pid", Int),
    nullable("tid", Int),
    nullable("comm", Text),
    nullable("cpu", Short),
    column("event", Text),
    column("stack", Text),
    column("quality", Short),
    column("count", Int),
    column("weight_ns", Int),
    nullable("preempted", Bool),
];

/// A row a writer and hour.
pub(super) const HOSTS: &[Column] = &[
    column("begin", Time),
    column("node", Text),
    column("boot_id", Text),
    column("writer", Text),
    column("version", Text),
    column("kernel", Text),
    nullable("cpu_model", Text),
    column("cpus", Int),
    column("hz", Int),
    column("period_ns", Int),
    column("event", Text),
    column("started_at", Time),
    column("samples", Int),
    nullable("rings", Text),
    column("ring_lost", Int),
    column("unattributed", Int),
    nullable("clock_offset_first_ns", Int),
    nullable("clock_offset_last_ns", Int),
    nullable("agent_cpu_us", Int),
    nullable("agent_memory_bytes", Int),
    nullable("damage", Text),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_a_schema() {
        for table in Table::ALL {
            let (all, least) = (table.columns().len(), table.least_columns());
            assert_eq!(table.schema(all).get_fields().len(), all);
            assert!(table.columns()[least..].iter().all(|column| column.nullable), "{table:?}");
            let names: std::collections::BTreeSet<_> = table.columns().iter().map(|c| c.name).collect();
            assert_eq!(names.len(), table.columns().len(), "{table:?}: each name once");
            drop(table.properties());
        }
    }
}
