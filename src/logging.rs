//! The log: text or JSON lines on standard error, whose level can be changed
//! while the program runs (SIGHUP).

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The level is none.
    #[error(
        "log.level `{level}` is not a filter: {why}; use error, warn, info, debug or trace, or directives such as `info,adu_export::bus=debug`"
    )]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody else has set up logging.
    #[error("logging is set up already")]
    Twice,
}

/// Changes the level while the program runs.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl LogHandle {
    /// Applies the level of a configuration that was read again. The format
    /// stays as it was at the start.
    ///
    /// # Errors
    /// When the level cannot be parsed; the old one stays.
    pub fn reload(&self, config: &LogConfig) -> Result<(), LoggingError> {
        let filter = filter(config)?;
        // Fails only when the subscriber is gone, and with it the log.
        let _ = self.0.reload(filter);
        Ok(())
    }
}

/// Sets up the log of this process.
///
/// # Errors
/// When the level cannot be parsed, or logging is set up already.
pub fn init(config: &LogConfig) -> Result<LogHandle, LoggingError> {
    let (filter, handle) = reload::Layer::new(filter(config)?);
    let lines = match config.format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            fmt::layer().with_ansi(colours).with_writer(std::io::stderr).boxed()
        }
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(|_| LoggingError::Twice)?;
    Ok(LogHandle(handle))
}

/// The directives, with one of our own: the AMQP library reports every broken
/// connection as an error, which the session says once and better. Whoever
/// names `lapin` gets it all.
fn filter(config: &LogConfig) -> Result<EnvFilter, LoggingError> {
    let level = config.level.trim();
    let invalid = |why: String| LoggingError::Level { level: level.into(), why };
    if level.is_empty() {
        return Err(invalid("it is empty".into()));
    }
    let directives = if level.contains("lapin") { level.to_owned() } else { format!("{level},lapin=off") };
    // A lone word that is no level would be taken for the name of a crate.
    for directive in level.split(',').map(str::trim).filter(|d| !d.contains(['=', '[', ':'])) {
        if directive.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
            return Err(invalid(format!("`{directive}` is no level")));
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
