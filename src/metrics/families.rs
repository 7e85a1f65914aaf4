//! The table of metrics: what each is called, in which unit, and what it says.
//!
//! Names are those that `/metrics` shows without `fnscope_`, the unit and `_total`, which follow from the other
//! columns. `deploy/README.md` shows this table; a test holds it there.

use super::own::Own;
use super::{Metrics, Teller, Value};

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, from 0 at the agent's start.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is 1; its labels tell.
    Info,
}

/// One number of a family, with its labels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) labels: Vec<(&'static str, &'static str)>,
    pub(super) value: Number,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Whole(u64),
    Real(f64),
}

/// What is told from.
pub(super) struct Sources<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) own: Own,
    pub(super) now_ns: u64,
}

/// A metric: a row of the table.
pub(super) struct Family {
    pub(super) name: &'static str,
    /// `bytes` or `seconds`, else nothing.
    pub(super) unit: &'static str,
    pub(super) kind: Kind,
    /// The names of its labels.
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
    pub(super) series: fn(&Sources) -> Vec<Series>,
}

/// A metric as a document shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documented {
    /// Its full name and the names of its labels, as a query needs them.
    pub name: String,
    /// `counter`, `gauge` or `info`.
    pub kind: &'static str,
    /// What it says.
    pub help: &'static str,
}

/// All metrics, in the order in which they are told.
pub fn documented() -> impl Iterator<Item = Documented> {
    FAMILIES.iter().map(|family| {
        let unit = if family.unit.is_empty() { String::new() } else { format!("_{}", family.unit) };
        let (kind, end) = match family.kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
            Kind::Info => ("info", "_info"),
        };
        let labels = family.labels.join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        Documented { name: format!("fnscope_{}{unit}{end}{labels}", family.name), kind, help: family.help }
    })
}

const fn counter(name: &'static str, help: &'static str, series: fn(&Sources) -> Vec<Series>) -> Family {
    Family { name, unit: "", kind: Kind::Counter, labels: &[], help, series }
}

const fn gauge(name: &'static str, help: &'static str, series: fn(&Sources) -> Vec<Series>) -> Family {
    Family { kind: Kind::Gauge, ..counter(name, help, series) }
}

/// The table.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        labels: &["version", "revision"],
        kind: Kind::Info,
        ..counter("build", "What this agent was built from.", |from| {
            let labels = vec![("version", env!("CARGO_PKG_VERSION")), ("revision", from.metrics.revision())];
            vec![Series { labels, value: Number::Whole(1) }]
        })
    },
    Family {
        unit: "seconds",
        ..gauge("start_timestamp", "When the agent started, in seconds since 1970.", |from| {
            seconds(from.metrics.started_us as f64 / 1e6)
        })
    },
    gauge("hz", "Samples a second and busy CPU.", |from| one(&from.metrics.hz)),
    Family {
        labels: &["mode"],
        ..gauge(
            "mode",
            "1 for what is sampled now: nothing, chains of frame pointers, or copies of stacks too.",
            |from| {
                let now = from.metrics.sampled.get();
                by(
                    "mode",
                    [
                        ("off", (now == 0).into()),
                        ("chains", (now == 1).into()),
                        ("copies", (now == 2).into()),
                    ],
                )
            },
        )
    },
    gauge("cpus", "CPUs whose rings are open.", |from| one(&from.metrics.cpus)),
    Family {
        unit: "bytes",
        ..gauge("ring", "Locked memory of the rings.", |from| one(&from.metrics.ring_bytes))
    },
    counter("samples", "Samples read of functions, or of what may be one.", |from| {
        one(&from.metrics.samples)
    }),
    counter("samples_stored", "Samples written to the store.", |from| one(&from.metrics.samples_stored)),
    counter("samples_lost", "Samples that the kernel could not write into a ring.", |from| {
        one(&from.metrics.samples_lost)
    }),
    Family {
        labels: &["reason"],
        ..counter(
            "samples_dropped",
            "Samples that were read and let go: the keeper was behind, too many waited for a name, the store could not be written, the agent had to end.",
            |from| {
                let metrics = from.metrics;
                by(
                    "reason",
                    [
                        ("backlog", metrics.dropped_backlog.get()),
                        ("buffer", metrics.dropped_buffer.get()),
                        ("store", metrics.dropped_store.get()),
                        ("shutdown", metrics.dropped_shutdown.get()),
                    ],
                )
            },
        )
    },
    counter("samples_unattributed", "Samples of cgroups that belong to no instance.", |from| {
        one(&from.metrics.samples_unattributed)
    }),
    counter(
        "samples_unseen",
        "Samples of the sandboxes that functions run in (gVisor, virtual machines), which are no function's.",
        |from| one(&from.metrics.samples_unseen),
    ),
    counter(
        "side_band_lost",
        "Records of processes and cgroups that the kernel could not write into a ring.",
        |from| one(&from.metrics.side_band_lost),
    ),
    Family {
        unit: "seconds",
        ..gauge(
            "longest_reading",
            "The longest that a reader has held the others up for a reading.",
            |from| seconds(from.metrics.longest_reading_ns.get() as f64 / 1e9),
        )
    },
    counter(
        "off_cpu_stopped",
        "Times that time off the CPU was no longer recorded because a function switched too often.",
        |from| one(&from.metrics.off_cpu_stopped),
    ),
    counter("switches_lost", "Switches of threads that the kernel could not write into a ring.", |from| {
        one(&from.metrics.switches_lost)
    }),
    Family {
        labels: &["reason"],
        ..counter(
            "waits_dropped",
            "Times off the CPU that were let go: the keeper was behind, too many threads were away, the store could not be written, the agent had to end.",
            |from| {
                let metrics = from.metrics;
                by(
                    "reason",
                    [
                        ("backlog", metrics.waits_dropped_backlog.get()),
                        ("away", metrics.waits_dropped_away.get()),
                        ("store", metrics.waits_dropped_store.get()),
                        ("shutdown", metrics.waits_dropped_shutdown.get()),
                    ],
                )
            },
        )
    },
    Family {
        labels: &["result"],
        ..counter(
            "discovered",
            "Containers that no runtime had claimed, by what became of reading what the host shows of them: named, nothing to be said, too many at once.",
            |from| {
                let metrics = from.metrics;
                by(
                    "result",
                    [
                        ("named", metrics.discovered.get()),
                        ("nothing", metrics.undiscovered.get()),
                        ("dropped", metrics.discovery_dropped.get()),
                    ],
                )
            },
        )
    },
    counter(
        "containers_unattached",
        "Containers whose events could not be opened, where they are scoped by cgroups.",
        |from| one(&from.metrics.unattached),
    ),
    Family {
        labels: &["what"],
        ..counter(
            "cuts",
            "What was cut of containers that want more than their share: processes that are not followed, files that were not opened, mappings and cgroups that were not kept, stacks cut to their leaf, frames that were not looked up, environments of processes that were not read, stacks that were not walked.",
            |from| by("what", super::CUTS.into_iter().zip(from.metrics.cuts.iter().map(Value::get))),
        )
    },
    counter("instances", "Instances that began.", |from| one(&from.metrics.instances)),
    gauge("instances_living", "Instances that live and are, or may be, functions.", |from| {
        one(&from.metrics.instances_living)
    }),
    gauge("functions_living", "Functions and revisions of which an instance lives.", |from| {
        one(&from.metrics.functions_living)
    }),
    Family {
        labels: &["from"],
        ..counter(
            "named_later",
            "Containers that became another function after their making, by who told: a process of theirs, a platform's log, labels of their pod.",
            |from| by("from", Teller::NAMES.into_iter().zip(from.metrics.named_later.iter().map(Value::get))),
        )
    },
    counter(
        "platform_log_errors",
        "Times that a log of a platform could not be read, or that there were too many of them.",
        |from| one(&from.metrics.platform_log_errors),
    ),
    counter("kubernetes_requests", "Requests for labels of pods.", |from| {
        one(&from.metrics.kubernetes_requests)
    }),
    counter(
        "kubernetes_errors",
        "Requests for labels of pods that failed, were too slow, or were answered with something else.",
        |from| one(&from.metrics.kubernetes_errors),
    ),
    Family {
        labels: &["runtime"],
        ..gauge("runtime_up", "1 while the runtime answers; none for one that is not here.", |from| {
            let here = from.metrics.runtimes.iter().filter(|runtime| runtime.is_here());
            by("runtime", here.map(|runtime| (runtime.name, runtime.up.get())))
        })
    },
    Family {
        labels: &["runtime", "kind"],
        ..counter(
            "runtime_oddities",
            "Odd answers of a runtime: not understood (garbled), not in time (late), a fault, of a container that was gone, or not asked for because too many waited (refused).",
            |from| {
                let of = |runtime: &super::Runtime| {
                    let labels = |kind| vec![("runtime", runtime.name), ("kind", kind)];
                    let each = super::ODDITIES.into_iter().zip(&runtime.odd);
                    let series = each.map(|(kind, value)| Series {
                        labels: labels(kind),
                        value: Number::Whole(value.get()),
                    });
                    series.collect::<Vec<_>>()
                };
                from.metrics.runtimes.iter().flat_map(of).collect()
            },
        )
    },
    Family {
        labels: &["result"],
        ..counter(
            "look_ups",
            "Containers asked after by the CRI: found, never known (another runtime's, or removed before), found without their pod, answered by a fault, not asked after because too many were.",
            |from| {
                let metrics = from.metrics;
                by(
                    "result",
                    [
                        ("found", metrics.look_ups_found.get()),
                        ("unknown", metrics.look_ups_unknown.get()),
                        ("without-pod", metrics.look_ups_without_pod.get()),
                        ("fault", metrics.look_ups_faults.get()),
                        ("refused", metrics.look_ups_refused.get()),
                    ],
                )
            },
        )
    },
    Family {
        labels: &["result"],
        ..counter("files", "Files that functions have mapped, by what became of opening them.", |from| {
            let metrics = from.metrics;
            by(
                "result",
                [
                    ("opened", metrics.files_opened.get()),
                    ("known", metrics.files_known.get()),
                    ("failed", metrics.files_failed.get()),
                ],
            )
        })
    },
    counter("files_evicted", "Open files let go of for others.", |from| one(&from.metrics.files_evicted)),
    counter("walks", "Stacks walked along copies.", |from| one(&from.metrics.walks)),
    counter("walks_complete", "Walks that reached the thread's first function.", |from| {
        one(&from.metrics.walks_complete)
    }),
    counter("walks_short", "Walks that no rule led further.", |from| one(&from.metrics.walks_short)),
    counter("walks_truncated", "Walks that reached the end of the copy or the limit on frames.", |from| {
        one(&from.metrics.walks_truncated)
    }),
    counter("walks_guessed", "Walks with at least one guessed frame.", |from| {
        one(&from.metrics.walks_guessed)
    }),
    Family {
        unit: "bytes",
        ..gauge("unwind_tables", "Size of the unwind tables that are kept.", |from| {
            one(&from.metrics.unwind_table_bytes)
        })
    },
    Family {
        labels: &["from"],
        ..counter(
            "symbol_tables",
            "Symbol tables of files seen for the first time: made, or kept from before.",
            |from| {
                let metrics = from.metrics;
                by("from", [("file", metrics.tables_built.get()), ("cache", metrics.tables_from_cache.get())])
            },
        )
    },
    counter(
        "symbol_files_unreadable",
        "Files that were gone, or could not be read, when they were to be named.",
        |from| one(&from.metrics.symbol_files_unreadable),
    ),
    counter("symbol_cache_errors", "Files of the cache that could not be read or written.", |from| {
        one(&from.metrics.symbol_cache_errors)
    }),
    counter("perf_maps", "Perf maps opened.", |from| one(&from.metrics.perf_maps_opened)),
    Family {
        unit: "bytes",
        ..counter("perf_maps_read", "Read of perf maps.", |from| one(&from.metrics.perf_map_bytes))
    },
    counter("store_batches", "Batches written to the store.", |from| one(&from.metrics.store_batches)),
    Family {
        unit: "bytes",
        ..counter("store_written", "Written to journals.", |from| one(&from.metrics.store_bytes))
    },
    counter("store_errors", "Times that the store could not be written.", |from| {
        one(&from.metrics.store_errors)
    }),
    counter(
        "store_hours_dropped",
        "Hours dropped from the store: too old, or more than it may hold, or than leaves enough of the disk free.",
        |from| one(&from.metrics.store_dropped_hours),
    ),
    Family {
        unit: "seconds",
        ..gauge(
            "last_flush_timestamp",
            "When the store was last written, in seconds since 1970; 0 before that.",
            |from| seconds(from.metrics.last_flush_us.get() as f64 / 1e6),
        )
    },
    Family {
        unit: "bytes",
        ..gauge("queued", "Memory of samples that wait to be named and written.", |from| {
            one(&from.metrics.queued_bytes)
        })
    },
    Family {
        labels: &["step"],
        ..gauge("degraded", "1 while the agent does less, to stay within its budget.", |from| {
            by("step", from.metrics.steps.all().into_iter().map(|step| (step.name, step.is_taken().into())))
        })
    },
    Family {
        labels: &["step"],
        ..counter("degradations", "Times that the agent began to do less.", |from| {
            by("step", from.metrics.steps.all().into_iter().map(|step| (step.name, step.count)))
        })
    },
    Family {
        unit: "seconds",
        labels: &["step"],
        ..counter("degraded", "How long the agent has done less.", |from| {
            let steps = from.metrics.steps.all().into_iter();
            let lasted = |ns: u64| Number::Real(ns as f64 / 1e9);
            let series = steps.map(|step| Series {
                labels: vec![("step", step.name)],
                value: lasted(step.lasted_ns(from.now_ns)),
            });
            series.collect()
        })
    },
    Family {
        unit: "seconds",
        ..counter("agent_cpu", "CPU time of this process.", |from| seconds(from.own.cpu_us as f64 / 1e6))
    },
    Family {
        unit: "bytes",
        ..gauge("resident", "Memory that this process holds, its rings included.", |from| {
            whole(from.own.resident_bytes)
        })
    },
    gauge("open_fds", "Open file descriptors.", |from| whole(from.own.open_fds)),
    gauge("max_fds", "How many may be open; nothing where there is no limit.", |from| {
        from.own.max_fds.map_or_else(Vec::new, whole)
    }),
];

fn one(value: &Value) -> Vec<Series> {
    whole(value.get())
}

fn whole(value: u64) -> Vec<Series> {
    vec![Series { labels: Vec::new(), value: Number::Whole(value) }]
}

fn seconds(value: f64) -> Vec<Series> {
    vec![Series { labels: Vec::new(), value: Number::Real(value) }]
}

fn by(label: &'static str, values: impl IntoIterator<Item = (&'static str, u64)>) -> Vec<Series> {
    let series = |(name, value)| Series { labels: vec![(label, name)], value: Number::Whole(value) };
    values.into_iter().map(series).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_that_people_read() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/README.md");
        let text = std::fs::read_to_string(readme).unwrap();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `fnscope_")).collect();
        let row = |m: Documented| format!("| `{}` | {} | {} |", m.name, m.kind, m.help);
        let table: Vec<String> = documented().map(row).collect();
        assert_eq!(rows, table, "write this into deploy/README.md:\n{}\n", table.join("\n"));
    }

    #[test]
    fn every_family_is_whole() {
        let metrics = Metrics::new(&["docker"]);
        metrics.steps.declare(&["rate"]);
        let sources = Sources { metrics: &metrics, own: Own::read(), now_ns: 0 };
        let mut names = std::collections::HashSet::new();
        for family in FAMILIES {
            let name = documented().nth(names.len()).unwrap().name;
            assert!(names.insert(name.clone()), "{name} twice");
            assert!(family.help.ends_with('.') && !family.help.contains(['|', '\n', '\\', '"']), "{name}");
            let series = (family.series)(&sources);
            assert!(!series.is_empty() || family.name == "max_fds", "{name}");
            for one in series {
                let labels: Vec<_> = one.labels.iter().map(|(key, _)| *key).collect();
                assert_eq!(labels, family.labels, "{name}");
            }
        }
    }
}
