//! Arguments that every question has: which store, which window, which instances.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::PossibleValue;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, ValueEnum, ValueHint};
use clap_complete::engine::ArgValueCandidates;

use super::complete;
use crate::config::DEFAULT_STORE;
pub use crate::config::keys::STORE_VARIABLE;
use crate::identity::Functions;
use crate::model::WriterInfo;
use crate::model::{Timestamp, Window};
use crate::query::{Event, Phase, PhaseFilter, Preempted, Selector, When};
use crate::render::time;

/// What part of which store a question is about.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// The store's directory; several are answered as one [default: /var/lib/fnscope]
    #[arg(long, value_name = "DIR", env = STORE_VARIABLE, value_hint = ValueHint::DirPath)]
    store: Vec<PathBuf>,
    /// Only what happened at this time or later: `2026-11-23T08:00:00Z`, `08:15` (today, UTC), `10m`, `2h`, `1d` (ago)
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Only what happened before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,
    /// Only this instance: its key, the begin of it or of the container's id, or its name; may be repeated
    #[arg(long, value_name = "KEY", add = ArgValueCandidates::new(complete::instances))]
    pub instance: Vec<String>,
    /// Only what ran on this host: its name as `fnscope hosts` tells it; may be repeated
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::hosts))]
    pub host: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl FilterArgs {
    /// The stores that are asked about.
    pub fn stores(&self) -> Vec<PathBuf> {
        let given = self.given_stores();
        if given.is_empty() { vec![DEFAULT_STORE.into()] } else { given.to_vec() }
    }

    /// Those of the command line or of the environment; none where the default is meant.
    pub fn given_stores(&self) -> &[PathBuf] {
        &self.store
    }

    /// The window asked for; an empty one is wrong usage.
    pub fn window(&self) -> Result<Window, clap::Error> {
        window(("--since", self.since), ("--until", self.until))
    }
}

/// The window between two options, each with its name; an empty one is wrong usage.
pub fn window(since: (&str, Option<When>), until: (&str, Option<When>)) -> Result<Window, clap::Error> {
    let now = now();
    let window = Window {
        from: since.1.map_or(Timestamp::MIN, |when| when.at(now)),
        to: until.1.map_or(Timestamp::MAX, |when| when.at(now)),
    };
    let (from, to) = (format!("{} {}", since.0, window.from), format!("{} {}", until.0, window.to));
    let message = match window.from.cmp(&window.to) {
        Ordering::Less => return Ok(window),
        Ordering::Equal => format!("{to} is not later than {from}: nothing lies between"),
        Ordering::Greater => format!("{to} is not later than {from} but before it: swap them"),
    };
    Err(wrong_usage(message))
}

/// Wrong usage that clap cannot see by itself.
pub fn wrong_usage(message: String) -> clap::Error {
    super::Cli::command().error(ErrorKind::ValueValidation, message)
}

/// Which function, as an argument.
#[derive(Debug, Clone, clap::Args)]
pub struct FunctionArg {
    /// The function: `platform/namespace/function@revision` or any end of that; without a revision all of them
    #[arg(value_name = "FUNCTION", add = ArgValueCandidates::new(complete::functions))]
    pub function: Selector,
}

/// Which function, or every one.
#[derive(Debug, Clone, clap::Args)]
pub struct AnyFunctionArg {
    /// The function: `platform/namespace/function@revision` or any end of that; without it all of them
    #[arg(value_name = "FUNCTION", add = ArgValueCandidates::new(complete::functions))]
    pub function: Option<Selector>,
}

/// How many rows, as an option; without it a table has at most `DEFAULT`, JSON all of them.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct LimitArg<const DEFAULT: usize> {
    #[arg(short = 'n', long, value_name = "COUNT", help = limit_help(DEFAULT))]
    limit: Option<usize>,
}

/// Rows of a ranking, of which the first tell most.
pub type TopArg = LimitArg<40>;
/// Rows of a list. More in a table nobody reads, and all of 100,000 would fill a terminal for minutes.
pub type RowsArg = LimitArg<1_000>;

fn limit_help(default: usize) -> String {
    format!("Show at most this many rows (default: {} as a table, all as JSON)", time::count(default as u64))
}

impl<const DEFAULT: usize> LimitArg<DEFAULT> {
    /// The number of rows.
    pub fn count(self, as_json: bool) -> usize {
        self.limit.unwrap_or(if as_json { usize::MAX } else { DEFAULT })
    }

    /// Those of `rows` that are shown.
    pub fn of<R>(self, rows: &[R], as_json: bool) -> &[R] {
        rows.get(..self.count(as_json)).unwrap_or(rows)
    }
}

/// Which phases, as an option.
#[derive(Debug, Clone, clap::Args)]
pub struct PhaseArg {
    /// Which phases of an instance's life
    #[arg(long, value_name = "PHASE", default_value = "function")]
    pub phase: PhaseFilter,
}

/// What is counted, as options.
#[derive(Debug, Clone, clap::Args)]
pub struct EventArg {
    /// What is counted
    #[arg(long, value_name = "EVENT", default_value = WriterInfo::CPU_CLOCK, hide_possible_values = false)]
    event: Counted,
    /// Which waits, where those are counted: a thread that is preempted would have gone on
    #[arg(long, value_name = "WHICH", value_enum)]
    preempted: Option<Preempted>,
}

/// What samples, or waits, are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    CpuClock,
    OffCpu,
    Counter(&'static str),
}

impl EventArg {
    /// The event; `--preempted` without waits is wrong usage.
    pub fn event(&self) -> Result<Event, clap::Error> {
        match (self.event, self.preempted) {
            (Counted::OffCpu, preempted) => Ok(Event::OffCpu(preempted.unwrap_or_default())),
            (_, Some(_)) => {
                Err(wrong_usage("--preempted is about waits: it goes with --event off-cpu alone".into()))
            }
            (Counted::CpuClock, None) => Ok(Event::CpuClock),
            (Counted::Counter(name), None) => Ok(Event::Counter(name.into())),
        }
    }
}

impl ValueEnum for Counted {
    fn value_variants<'a>() -> &'a [Counted] {
        &[
            Counted::CpuClock,
            Counted::OffCpu,
            Counted::Counter("cycles"),
            Counted::Counter("instructions"),
            Counted::Counter("cache-misses"),
            Counted::Counter("branch-misses"),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Counted::CpuClock => {
                PossibleValue::new(WriterInfo::CPU_CLOCK).help("samples of the CPU clock: time on a CPU")
            }
            Counted::OffCpu => PossibleValue::new(Event::OFF_CPU)
                .help("waits: time off the CPU, of functions that `off_cpu.functions` names"),
            Counted::Counter(name) => PossibleValue::new(*name)
                .help("samples of that counter, by agents that `event` makes sample it"),
        })
    }
}

impl ValueEnum for Preempted {
    fn value_variants<'a>() -> &'a [Preempted] {
        &[Preempted::Exclude, Preempted::Include, Preempted::Only]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Preempted::Exclude => {
                PossibleValue::new("exclude").help("no preemption: what was waited for (default)")
            }
            Preempted::Include => PossibleValue::new("include").help("all time off the CPU"),
            Preempted::Only => PossibleValue::new("only").help("preemption alone: what other work took"),
        })
    }
}

impl ValueEnum for PhaseFilter {
    fn value_variants<'a>() -> &'a [PhaseFilter] {
        &[
            PhaseFilter::Function,
            PhaseFilter::All,
            PhaseFilter::Only(Phase::RuntimeInit),
            PhaseFilter::Only(Phase::Cold),
            PhaseFilter::Only(Phase::Warm),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            PhaseFilter::Function => ("function", "the function's own time: cold and warm"),
            PhaseFilter::All => ("all", "everything"),
            PhaseFilter::Only(Phase::RuntimeInit) => {
                ("runtime-init", "the container runtime's, before the function's own exec")
            }
            PhaseFilter::Only(Phase::Cold) => {
                ("cold", "from the exec until the platform says that it is ready, else for a second")
            }
            PhaseFilter::Only(Phase::Warm) => ("warm", "after that"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

impl ValueEnum for Functions {
    fn value_variants<'a>() -> &'a [Functions] {
        &[Functions::Labelled, Functions::All]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Functions::Labelled => "labelled",
            Functions::All => "all",
        }))
    }
}

/// The wall clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
