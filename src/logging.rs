//! The log: lines of text or JSON on standard error, or entries of the journal. Its level can be changed while
//! the program runs (SIGHUP). `docs/LOGS.md` lists all events and fields.

use std::io::IsTerminal;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use self::journal::Journal;
use self::lines::JsonLines;
pub use self::lines::name_daemon;
use crate::config::{LogConfig, LogFormat};
use crate::traces::{self, TraceLayer};

mod journal;
mod lines;
#[cfg(test)]
mod vocabulary;

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The level is not valid.
    #[error(
        "log.level `{level}` is not a filter: {why}; use error, warn, info, debug or trace, or directives such as `info,adu_export::bus=debug`"
    )]
    Level {
        /// The given text.
        level: String,
        /// What is wrong with it.
        why: String,
    },
    /// Logging was set up before.
    #[error("logging is set up already")]
    Twice,
}

/// What the lines are written from. Traces have a filter of their own, so that the level of the log does not
/// change them.
type Traced = Layered<Option<TraceLayer>, Registry>;

/// Changes the level while the program runs.
#[derive(Clone)]
pub struct LogHandle(reload::Handle<EnvFilter, Traced>);

impl LogHandle {
    /// Applies the level of a configuration that was read again. The format stays the same.
    ///
    /// # Errors
    /// If the level cannot be parsed. The old one stays then.
    pub fn reload(&self, config: &LogConfig) -> Result<(), LoggingError> {
        let filter = filter(config)?;
        // This fails only if the subscriber no longer exists, and then there is no log either.
        let _ = self.0.reload(filter);
        Ok(())
    }
}

/// Sets up the log of this process, and the traces beside it.
///
/// # Errors
/// If the level cannot be parsed, or logging was set up before.
pub fn init(config: &LogConfig, traces: Option<TraceLayer>) -> Result<LogHandle, LoggingError> {
    let (filter, handle) = reload::Layer::new(filter(config)?);
    let journal = || Journal::of_stderr().map(json);
    let lines = match config.format {
        LogFormat::Json => json(std::io::stderr),
        LogFormat::Text => text(),
        LogFormat::Auto => journal().unwrap_or_else(text),
    };
    let subscriber = tracing_subscriber::registry().with(traces).with(lines.with_filter(filter));
    subscriber.try_init().map_err(|_| LoggingError::Twice)?;
    Ok(LogHandle(handle))
}

fn text() -> Box<dyn Layer<Traced> + Send + Sync> {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    fmt::layer().with_ansi(colours).with_writer(std::io::stderr).boxed()
}

fn json(to: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) -> Box<dyn Layer<Traced> + Send + Sync> {
    fmt::layer().fmt_fields(JsonFields::new()).event_format(JsonLines).with_writer(to).boxed()
}

/// The filter with the directives, and two of our own. One silences the AMQP library `lapin`, which logs every
/// broken connection as an error. The session logs it once, with a better text. If the directives name
/// `lapin`, they decide. The other leaves the spans of traces out.
fn filter(config: &LogConfig) -> Result<EnvFilter, LoggingError> {
    let level = config.level.trim();
    let invalid = |why: String| LoggingError::Level { level: level.into(), why };
    if level.is_empty() {
        return Err(invalid("it is empty".into()));
    }
    let mut directives = format!("{level},{}=off", traces::TARGET);
    if !level.contains("lapin") {
        directives.push_str(",lapin=off");
    }
    // The filter would take a single word that is not a level for the name of a crate.
    for directive in level.split(',').map(str::trim).filter(|d| !d.contains(['=', '[', ':'])) {
        if directive.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
            return Err(invalid(format!("`{directive}` is not a level")));
        }
    }
    EnvFilter::builder().parse(directives).map_err(|e| invalid(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(level: &str) -> LogConfig {
        LogConfig { level: level.into(), format: LogFormat::Text }
    }

    #[test]
    fn levels_and_directives_are_taken() {
        for level in ["info", "WARN", "off", "info,adu_export::bus=debug", "adu_export=trace,lapin=warn"] {
            assert!(filter(&config(level)).is_ok(), "{level}");
        }
    }

    #[test]
    fn a_level_that_is_none_is_named_with_the_setting() {
        for level in ["", "chatty", "adu_export=loud", "info,verbose"] {
            let error = filter(&config(level)).expect_err(level).to_string();
            assert!(error.contains("log.level") && error.contains("debug"), "{error}");
        }
    }

    #[test]
    fn the_library_is_silent_unless_it_is_asked_for() {
        assert!(filter(&config("debug")).expect("valid").to_string().contains("lapin=off"));
        assert!(filter(&config("info,lapin=debug")).expect("valid").to_string().contains("lapin=debug"));
    }
}
