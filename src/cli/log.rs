//! How this program talks on stderr while it works: text for people, or a JSON object a line.
//!
//! `FNSCOPE_LOG` says what is told, as tracing's filters do: `debug`, or `info,fnscope::agent=debug`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::config::keys::LOG_VARIABLE;

/// Begins to talk. What a second call says changes nothing.
pub(super) fn init(format: LogFormat) {
    // An empty variable is as good as none.
    let asked = std::env::var(LOG_VARIABLE).ok().filter(|asked| !asked.is_empty());
    let asked = asked.and_then(|asked| EnvFilter::try_new(asked).ok());
    let filter = asked.unwrap_or_else(|| EnvFilter::new("info"));
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
