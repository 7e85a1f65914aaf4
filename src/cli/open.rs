//! Opens the store for a question: a bar while a person waits, a warning for what could not be read.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::FilterArgs;
use super::output::tell;
use crate::model::Window;
use crate::query::{self, Phase, PhaseFilter, Scope, Selection, Selector, Stacks, View};
use crate::render::{escape, time};

/// How long a person is left alone before a bar appears.
const PATIENCE: Duration = Duration::from_secs(1);

/// The view that `args` ask for, for questions that `scope` is enough for; and what `function` (none for every
/// function) and the filters mean in it.
pub fn asked(
    args: &FilterArgs,
    scope: Scope<'_>,
    function: Option<&Selector>,
) -> anyhow::Result<(View, Selection)> {
    let view = view_of(&args.store, args.window()?, scope)?;
    let selection = view.select(function, &args.instance)?.on_hosts(&view, &args.host)?;
    Ok((view, selection))
}

/// The view of `stores` for `window`, for questions that `scope` is enough for.
pub fn view_of(stores: &[PathBuf], window: Window, scope: Scope<'_>) -> anyhow::Result<View> {
    let begin = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    let on_terminal = std::io::stderr().is_terminal();
    let view = query::open_for(stores, window, scope, |done, all| {
        if on_terminal && bar.is_none() && begin.elapsed() > PATIENCE {
            bar = Some(new_bar(all));
        }
        if let Some(bar) = &bar {
            bar.set_position(done as u64);
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let view = view?;
    warn(&view);
    Ok(view)
}

/// Does `work`; says on a terminal that it is at `what` once a person has waited for a second.
pub fn patiently<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let (done, waited) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if waited.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let spinner = ProgressBar::new_spinner().with_message(what);
                spinner.enable_steady_tick(Duration::from_millis(100));
                // Ends with its sender.
                let _ = waited.recv();
                spinner.finish_and_clear();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn new_bar(all: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(all as u64), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("reading {pos}/{len} files {wide_bar} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn warn(view: &View) {
    const MOST: usize = 5;
    let damage = view.damage();
    for found in damage.iter().take(MOST) {
        let kind = if found.torn_end { "unfinished end, its writer was killed" } else { "damaged" };
        let text = format!("{}: at byte {}: {} ({kind})", found.file.display(), found.offset, found.what);
        tell(&format!("fnscope: warning: {}", escape::line(&text)));
    }
    if damage.len() > MOST {
        tell(&format!("fnscope: warning: {} more such places", damage.len() - MOST));
    }
    if view.orphans() > 0 {
        let count = time::count(view.orphans());
        tell(&format!("fnscope: warning: {count} samples refer to what their journal does not have"));
    }
}

/// The stacks of `function` in the phases asked for, with the view and what was selected in it; what was left out is
/// told. None, and why is told, where there are none.
pub fn stacks(
    args: &FilterArgs,
    scope: Scope<'_>,
    function: &Selector,
    phases: PhaseFilter,
) -> anyhow::Result<Option<(View, Selection, Stacks)>> {
    let (view, selection) = asked(args, scope, Some(function))?;
    let stacks = patiently("adding up stacks", || query::stacks(&view, &selection, phases));
    let left_out: u64 = stacks.left_out.iter().map(|(_, count)| count).sum();
    if stacks.profile.stacks().is_empty() {
        let where_else = match left_out {
            0 => String::new(),
            _ => format!("; {} in other phases, see --phase all", time::count(left_out)),
        };
        let window = time::window(view.window());
        tell(&format!("fnscope: no samples of `{function}` in phase {phases}, {window}{where_else}"));
        return Ok(None);
    }
    if phases == PhaseFilter::Function && left_out > 0 {
        let share = left_out as f64 / (left_out + stacks.profile.total().samples) as f64;
        tell(&format!(
            "fnscope: left out {} samples ({}) of phase {}: the container runtime's time; --phase all counts them",
            time::count(left_out),
            time::share(share),
            Phase::RuntimeInit,
        ));
    }
    Ok(Some((view, selection, stacks)))
}
