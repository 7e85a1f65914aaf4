//! The integration tests: one binary, a line for each module.
//!
//! Names decide who runs beside whom (`.config/nextest.toml`): a module `cli_…` needs nothing of the machine and runs
//! beside others; every other module needs perf events, cgroups or Docker, and its tests run alone.

mod agent_cgroup;
mod agent_cgroup_namespace;
mod agent_changes;
mod agent_containerd;
mod agent_cri;
mod agent_discovery;
mod agent_docker;
mod agent_facts;
mod agent_health;
mod agent_reload;
mod agent_scoped;
mod agent_without_docker;
mod answers;
#[path = "engines/ask.rs"]
#[allow(dead_code, reason = "each test module uses its part of it")]
mod ask;
mod bad_rights;
mod bad_runtimes;
mod cgroup_layouts;
mod cli_comparisons;
mod cli_config;
mod cli_deploy;
mod cli_doctor;
mod cli_engines;
mod cli_exchange;
mod cli_grafana;
mod cli_hosts;
mod cli_identify;
mod cli_kubernetes;
mod cli_off_cpu;
mod cli_questions;
mod cli_usage;
mod cluster;
mod containerd_kit;
mod containerd_runtime;
mod cri_runtime;
mod daemonset;
mod docker_runtime;
mod exec_command;
mod exec_node;
mod fixtures_for_real;
mod function_program;
mod health_metrics;
mod hostile_files;
mod hostile_labels;
#[allow(dead_code, reason = "measurements use the rest")]
mod hostile_program;
mod hostile_tenants;
mod https_server;
mod in_container;
mod kubelet;
mod kubernetes_answers;
mod late_identity;
mod layered_files;
mod made_store;
mod manifests;
mod native_stacks;
mod odd_docker;
#[allow(dead_code, reason = "each test module uses its part of it")]
mod odd_grpc;
mod podman_runtime;
#[allow(dead_code, reason = "each test module uses its part of it")]
mod private_containerd;
mod private_docker;
mod private_podman;
mod rights;
mod sandboxes;
#[allow(dead_code, reason = "the program uses the rest")]
mod soak;
mod soak_short;
#[path = "accept/store_data.rs"]
#[allow(dead_code, reason = "tests use their part of it")]
mod store_data;
#[allow(dead_code, reason = "tests use their part of it")]
mod store_faults;
mod store_under_faults;
mod student_t;
#[allow(dead_code, reason = "each test module uses its part of it")]
mod support;
#[allow(dead_code, reason = "measurements use the rest")]
mod truth;
#[expect(clippy::unwrap_used, reason = "what takes points is called by tests alone")]
mod unwound_programs;
mod watcher;
