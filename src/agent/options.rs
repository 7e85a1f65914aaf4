//! What the agent's parts are given, out of the configuration and of what this host is.

use anyhow::Context as _;

use super::pods::Server;
use super::{BudgetLimits, Role, own};
use crate::config::{Attach, Config, StackConfig, StoreConfig, Unwind};
use crate::model::WriterInfo;
use crate::perf::{Clock, RingOptions, online_cpus, period_ns};
use crate::stack::SymbolOptions;
use crate::store::archive::{Retention, TidyOptions};

/// The rings that an agent of `config` opens on this host.
pub fn ring_options(config: &Config) -> RingOptions {
    within_budget(config, config.clamped_hz(kernel_max_hz()))
}

/// The highest rate that the kernel allows.
pub(super) fn kernel_max_hz() -> Option<u32> {
    read_number("/proc/sys/kernel/perf_event_max_sample_rate")
}

fn copy_bytes(config: &Config) -> Option<u32> {
    (config.stack.unwind != Unwind::Fp).then_some(config.stack.copy_bytes)
}

fn within_budget(config: &Config, hz: u32) -> RingOptions {
    let rings = RingOptions::within(config.ring_budget_bytes, online_cpus(), hz, copy_bytes(config));
    RingOptions { event: config.event, scoped: config.attach == Attach::PerCgroup, ..rings }
}

/// Rings within the budget. What had to be less than was asked for is said.
pub(super) fn rings(config: &Config, hz: u32) -> RingOptions {
    let (rings, copy_bytes) = (within_budget(config, hz), copy_bytes(config));
    let stack_bytes = rings.copies.map(|copies| copies.stack_bytes);
    if (rings.hz, stack_bytes) != (hz, copy_bytes) {
        tracing::warn!(
            asked_hz = hz,
            hz = rings.hz,
            asked_copy_bytes = copy_bytes,
            copy_bytes = stack_bytes,
            "less is sampled than asked for, to stay within ring_budget_bytes"
        );
    }
    rings
}

pub(super) fn budget(config: &Config) -> anyhow::Result<BudgetLimits> {
    let fault = anyhow::Error::msg;
    Ok(BudgetLimits {
        memory_bytes: config.budget.memory_bytes().map_err(fault)?,
        cpu_millipercent: config.budget.cpu_millipercent().map_err(fault)?,
    })
}

/// How the store is kept tidy.
pub(super) fn tidy_options(config: &StoreConfig) -> anyhow::Result<TidyOptions> {
    let fault = anyhow::Error::msg;
    let retention = Retention {
        max_age: config.max_age().map_err(fault)?,
        max_bytes: config.max_bytes().map_err(fault)?,
        min_free_bytes: config.min_free_bytes().map_err(fault)?,
    };
    Ok(TidyOptions { folded: config.folded().map_err(fault)?, retention, ..TidyOptions::default() })
}

fn read(path: &str) -> std::io::Result<String> {
    std::fs::read_to_string(path).map(|text| text.trim().to_string())
}

/// What this host is called.
fn node(config: &Config) -> String {
    let host = || read("/proc/sys/kernel/hostname").unwrap_or_else(|_| "localhost".into());
    config.node.clone().unwrap_or_else(host)
}

/// Whom an agent of `config` asks for the labels of pods on this host; none where nobody is asked.
///
/// # Errors
/// The API server is to be asked, and nobody says where it is.
pub fn pod_server(config: &Config) -> anyhow::Result<Option<Server>> {
    Server::of(&config.kubernetes, &node(config))
}

pub(super) fn writer_info(config: &Config, role: Role, hz: u32, cpus: usize) -> anyhow::Result<WriterInfo> {
    let now = Clock::read();
    Ok(WriterInfo {
        node: node(config),
        boot_id: read("/proc/sys/kernel/random/boot_id").context("read the boot id")?,
        writer: role.writer().into(),
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        cpu_model: own::cpu_model(),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        event: config.event.name().into(),
        hz,
        period_ns: period_ns(hz),
        started_at: now.wall(Clock::monotonic_ns()),
    })
}

/// An open file for each instance and for hundreds of mapped files: more than the 1024 that services get unasked.
pub(super) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("raise the limit on open files: {error}");
    }
}

pub(super) fn symbol_options(config: &StackConfig) -> SymbolOptions {
    SymbolOptions {
        inlines: config.inlines.is_on(),
        debug_dirs: config.debug_dirs.clone(),
        debuginfod: config.debuginfod.clone(),
        ..SymbolOptions::default()
    }
}

pub(super) fn read_number(path: &str) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
