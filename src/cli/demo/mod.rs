//! `fnscope demo`: the real agent on real functions, start to flame graph, in half a minute.
//!
//! Twenty cold starts of 50 to 100 ms and a warm instance, of two functions, one of them in two revisions of which the
//! second is slower. By default they are processes in cgroups of their own; with `--docker`, containers that carry the
//! labels OpenFaaS gives them.

mod docker;
mod plan;
mod processes;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Outcome, output, report};
use crate::agent::{Agent, Role};
use crate::config::{Cgroup, Config, DEFAULT_DOCKER_SOCKET, Runtimes};
use crate::functions;
use crate::model::{Timestamp, Window};
use crate::perf::Clock;
use crate::query::{Selector, View};
use crate::render;
use plan::Start;

/// Runs the demonstration.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo fnscope demo              processes in cgroups of their own; needs nothing but root
  sudo fnscope demo --docker     containers with OpenFaaS's labels; nothing is pulled")]
pub struct Args {
    /// Directory for the profiles and the flame graphs; it stays
    #[arg(long, value_name = "DIR", default_value = "fnscope-demo")]
    dir: PathBuf,
    /// Run the functions as Docker containers
    #[arg(long)]
    docker: bool,
    /// Docker's socket
    #[arg(long, value_name = "PATH", default_value = DEFAULT_DOCKER_SOCKET)]
    docker_socket: PathBuf,
    /// Samples a second and busy CPU [default: 199]
    #[arg(long, value_name = "N")]
    hz: Option<u32>,
}

/// Runs it and shows what came out.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(&args.dir).with_context(|| format!("make {}", args.dir.display()))?;
    let store = args.dir.join("profiles");
    let program = functions::install(&args.dir)
        .with_context(|| format!("write the functions to {}", args.dir.display()))?;
    let started_at = Clock::read().wall(Clock::monotonic_ns());
    let plan = plan::plan();
    let ran = if args.docker {
        docker::run(args, &store, &program, &plan)
    } else {
        in_cgroups(args, &store, &program, &plan)
    };
    // Nothing of it is left but what was asked for.
    let _ = std::fs::remove_file(&program);
    ran?;
    show(args, &store, started_at)?;
    Ok(Outcome::Done)
}

fn in_cgroups(args: &Args, store: &Path, program: &Path, plan: &[Start]) -> anyhow::Result<()> {
    let cgroups = crate::cgroup::Cgroups::detect()?;
    let mut own = super::own_cgroup::OwnCgroup::new(&cgroups, "demo")?;
    let config = Config {
        runtimes: Runtimes::off(),
        cgroup: Cgroup { parents: vec![own.path().into()] },
        ..config(args, store)
    };
    let agent = Agent::start(&config, Role::Demo)?;
    let progress = progress(plan.len());
    let ran = processes::run(&agent, &mut own, program, plan, &progress);
    progress.finish_and_clear();
    agent.stop()?;
    ran
}

fn config(args: &Args, store: &Path) -> Config {
    Config { store: store.into(), hz: args.hz.unwrap_or(crate::config::DEFAULT_HZ), ..Config::default() }
}

/// A bar on a terminal, nothing elsewhere.
fn progress(starts: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<12} [{bar:40}] {pos}/{len} instances")
        .expect("the template is right");
    let bar = ProgressBar::new(starts as u64);
    bar.set_style(style.progress_chars("=> "));
    bar
}

fn show(args: &Args, store: &Path, started_at: Timestamp) -> anyhow::Result<()> {
    let view = report::open(store, Window { from: started_at, to: Timestamp::MAX })?;
    let rows = report::functions(&view)?;
    if rows.is_empty() {
        bail!("no function was seen; `fnscope doctor` says what this host allows");
    }
    output::print(&render::functions(&rows, output::terminal_width()))?;
    let mut text = String::from("\n");
    for row in &rows {
        let selector: Selector = row.id.to_string().parse().context("read back a function's name")?;
        let selection = view.select(Some(&selector), &[])?;
        let hottest = report::hottest_line(&report::hottest(&view, &selection, 4));
        let _ = writeln!(text, "{}: {hottest}", report::short_name(&row.id));
    }
    text.push('\n');
    for name in ["pi", "fib"] {
        let path = args.dir.join(format!("{name}.svg"));
        draw(&view, name, &path)?;
        let _ = writeln!(text, "flame graph of {name}: {}", path.display());
    }
    let shown = store.display();
    let _ = writeln!(text, "\nThe profiles stay in {shown}. Look at them with:\n");
    let slower = rows.iter().map(|row| &row.id).filter(|id| id.function.text().as_deref() == Some("pi"));
    let slower = slower.max_by_key(|id| id.revision.text()).context("pi was not seen")?;
    let top = format!("top {}", report::typed(slower));
    for next in ["ls", "instances pi", &top, "folded pi", "flame pi -o pi.svg"] {
        let _ = writeln!(text, "  fnscope {next} --store {shown}");
    }
    output::print(&text)
}

fn draw(view: &View, name: &str, path: &Path) -> anyhow::Result<()> {
    let selector: Selector = name.parse().context("read a function's name")?;
    let selection = view.select(Some(&selector), &[])?;
    report::write_flame(view, &selection, &selector, path)
}
