//! Opens the store for a question: a bar while a person waits, a warning for what could not be read.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::{EventArg, FilterArgs};
use super::output::tell;
use crate::model::Window;
use crate::query::{self, Event, Phase, PhaseFilter, Preempted, Scope, Selection, Selector, Stacks, View};
use crate::render::{escape, time, unseen};

/// How long a person is left alone before a bar appears.
const PATIENCE: Duration = Duration::from_secs(1);

/// The view that `args` ask for, for questions that `scope` is enough for; and what `function` (none for every
/// function) and the filters mean in it.
pub fn asked(
    args: &FilterArgs,
    scope: Scope<'_>,
    function: Option<&Selector>,
) -> anyhow::Result<(&'static View, Selection)> {
    asked_for(args, scope, &Event::CpuClock, function)
}

/// The same for questions that count `event`.
pub fn asked_for(
    args: &FilterArgs,
    scope: Scope<'_>,
    event: &Event,
    function: Option<&Selector>,
) -> anyhow::Result<(&'static View, Selection)> {
    let view = view_of(&args.stores(), args.window()?, scope, event)?;
    let selection = view.select(function, &args.instance)?.on_hosts(view, &args.host)?;
    Ok((view, selection))
}

/// The view for a list, which counts samples; waits stand beside them.
pub fn listed(
    args: &FilterArgs,
    event: &EventArg,
    function: Option<&Selector>,
) -> anyhow::Result<(&'static View, Selection)> {
    let event = event.event()?;
    if matches!(event, Event::OffCpu(_)) {
        let message = "a list tells time off the CPU in a column of its own; leave --event out";
        return Err(super::args::wrong_usage(message.into()).into());
    }
    asked_for(args, Scope::Counts, &event, function)
}

/// The view of `stores` for `window`, for questions that `scope` is enough for and that count `event`.
/// The process ends with the answer: taking apart what a hundred thousand instances take would make a person wait.
pub fn view_of(
    stores: &[PathBuf],
    window: Window,
    scope: Scope<'_>,
    event: &Event,
) -> anyhow::Result<&'static View> {
    let begin = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    let on_terminal = std::io::stderr().is_terminal();
    let view = query::open_event(stores, window, scope, event, |done, all| {
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
    let view = Box::leak(Box::new(view?));
    warn(view);
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
    event: &Event,
    function: &Selector,
    phases: PhaseFilter,
) -> anyhow::Result<Option<(&'static View, Selection, Stacks)>> {
    let (view, selection) = asked_for(args, scope, event, Some(function))?;
    let stacks = patiently("adding up stacks", || query::stacks(view, &selection, phases));
    let left_out: u64 = stacks.left_out.iter().map(|(_, count)| count).sum();
    let counted = what(event);
    if stacks.profile.stacks().is_empty() {
        let where_else = match left_out {
            0 => elsewhere(view, &selection),
            _ => format!("; {} in other phases, see --phase all", time::count(left_out)),
        };
        let window = time::window(view.window());
        let text = format!("no {counted} of `{function}` in phase {phases}, {window}{where_else}");
        tell(&format!("fnscope: {}", escape::line(&text)));
        return Ok(None);
    }
    if let Some(unseen) = query::unseen(view, &selection) {
        let text = unseen::of_stacks(&unseen);
        tell(&format!("fnscope: of `{}`, {text}", escape::line(&function.to_string())));
    }
    if let Event::OffCpu(preempted) = event {
        tell(&format!("fnscope: {}", waited(view, &selection, &stacks, *preempted)));
    }
    if phases == PhaseFilter::Function && left_out > 0 {
        let share = left_out as f64 / (left_out + stacks.profile.total().samples) as f64;
        tell(&format!(
            "fnscope: left out {} {} ({}) of phase {}: the container runtime's time; --phase all counts them",
            time::count(left_out),
            if matches!(event, Event::OffCpu(_)) { "waits" } else { "samples" },
            time::share(share),
            Phase::RuntimeInit,
        ));
    }
    Ok(Some((view, selection, stacks)))
}

/// Says below a list which of `selection` cannot be seen.
pub fn tell_unseen(view: &View, selection: &Selection) {
    if let Some(unseen) = query::unseen(view, selection) {
        tell(&format!("fnscope: {}", unseen::of_list(&unseen)));
    }
}

/// What `event` counts, as a person reads it.
pub fn what(event: &Event) -> String {
    match event {
        Event::CpuClock => "samples".into(),
        Event::Counter(name) => format!("samples of {name}"),
        Event::OffCpu(Preempted::Only) => "preempted waits".into(),
        Event::OffCpu(_) => "waits".into(),
    }
}

/// Where there may be something, of a function of which there is nothing.
pub fn elsewhere(view: &View, selection: &Selection) -> String {
    if let Some(unseen) = query::unseen(view, selection) {
        return format!("; {}", unseen::of_stacks(&unseen));
    }
    let counters = view.counters(selection);
    match view.event() {
        Event::OffCpu(preempted) => {
            let left_out = view.left_out(selection);
            if left_out.samples > 0 {
                let (count, length) = (time::count(left_out.samples), time::length_ns(left_out.time_ns));
                let kind = if *preempted == Preempted::Only { "others" } else { "preempted" };
                return format!("; {count} {kind}, {length} in all, see --preempted include");
            }
            "; time off the CPU is recorded of the functions that `off_cpu.functions` names in the agent's \
             configuration"
                .into()
        }
        Event::Counter(name) if !counters.contains(name) => format!(
            "; an agent samples that with `event = \"{name}\"` in its configuration, in place of the CPU clock"
        ),
        Event::CpuClock if !counters.is_empty() => {
            format!("; it was sampled by {}: --event {}", counters.join(", "), counters.join(" or --event "))
        }
        Event::CpuClock | Event::Counter(_) => String::new(),
    }
}

/// What was waited, and what of it is left out.
fn waited(view: &View, selection: &Selection, stacks: &Stacks, preempted: Preempted) -> String {
    let (total, left_out) = (stacks.profile.total(), view.left_out(selection));
    let kind = if preempted == Preempted::Only { "preempted " } else { "" };
    let mut text = format!(
        "{} off the CPU in {} {kind}waits, all threads together",
        time::length_ns(total.time_ns),
        time::count(total.samples)
    );
    if left_out.samples > 0 {
        let what = if preempted == Preempted::Only { "that were no preemption" } else { "of preemption" };
        text += &format!(
            "; left out: {} {what} in {} (--preempted include counts them)",
            time::length_ns(left_out.time_ns),
            time::count(left_out.samples)
        );
    }
    text
}
