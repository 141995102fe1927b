//! Signals as a stream: SIGTERM and SIGINT stop, SIGHUP reloads.

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tokio::sync::mpsc;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop. The second such signal means: at once.
    Stop,
    /// Read log level and sources again.
    Reload,
    /// No signal can come any more.
    Ended,
}

/// The signals of this process.
pub struct Signals {
    incoming: mpsc::Receiver<Signal>,
    handle: signal_hook::iterator::Handle,
}

impl Signals {
    /// Takes the signals over.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn install() -> anyhow::Result<Self> {
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
            .context("install signal handlers")?;
        let handle = signals.handle();
        let (sender, incoming) = mpsc::channel(8);
        std::thread::Builder::new()
            .name("adu-signals".into())
            .spawn(move || {
                for signal in signals.forever() {
                    let signal = if signal == SIGHUP { Signal::Reload } else { Signal::Stop };
                    if sender.blocking_send(signal).is_err() {
                        break;
                    }
                }
            })
            .context("start the signal thread")?;
        Ok(Self { incoming, handle })
    }

    /// The next signal; cancel-safe.
    pub async fn next(&mut self) -> Signal {
        self.incoming.recv().await.unwrap_or(Signal::Ended)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}
