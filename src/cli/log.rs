//! How this program talks on stderr while it works: text for people, or a JSON object a line.
//!
//! `FNSCOPE_LOG` says what is told, as tracing's targets do: `debug`, or `info,fnscope::agent=debug`.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogFormat;
use crate::config::keys::LOG_VARIABLE;

/// Begins to talk. What a second call says changes nothing.
pub(super) fn init(format: LogFormat) {
    // An empty variable is as good as none.
    let asked = std::env::var(LOG_VARIABLE).ok().filter(|asked| !asked.is_empty());
    let filter = asked.as_deref().map_or(Ok(usual()), str::parse::<Targets>);
    let fault = filter.as_ref().err().map(ToString::to_string);
    let filter = filter.unwrap_or_else(|_| usual());
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = std::io::stderr().is_terminal() && !plain;
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colour);
    // The filter alone says what is told.
    let lines = lines.with_max_level(LevelFilter::TRACE);
    // Both fail where somebody has begun already, which is well.
    let _ = match format {
        LogFormat::Text => lines.finish().with(filter).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).finish().with(filter).try_init(),
    };
    if format == LogFormat::Json {
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    }
    if let Some(fault) = fault {
        tracing::warn!(
            "{LOG_VARIABLE}: {fault}; set it to a level such as `debug`, or to `info,fnscope::agent=debug`"
        );
    }
}

fn usual() -> Targets {
    Targets::new().with_default(LevelFilter::INFO)
}
