//! How this program talks on stderr while it works: text for people, or a JSON object a line.
//!
//! `FNSCOPE_LOG` says what is told, as tracing's filters do: `debug`, or `info,fnscope::agent=debug`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Begins to talk. What a second call says changes nothing.
pub(super) fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_env("FNSCOPE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = std::io::stderr().is_terminal() && !plain;
    let lines =
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colour).with_env_filter(filter);
    // Both fail where somebody has begun already, which is well.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).try_init(),
    };
    if format == LogFormat::Json {
        std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    }
}
