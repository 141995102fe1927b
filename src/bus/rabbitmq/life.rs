//! The lifetime of a session's connections. It ends once and has one cause. Every call to the broker during
//! this lifetime has a deadline.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::BusError;
use super::fault;

/// The lifetime of a session; all its tasks and handles share it.
#[derive(Clone)]
pub(super) struct Life {
    closed: CancellationToken,
    closing: CancellationToken,
    cause: Arc<OnceLock<BusError>>,
    call_timeout: Duration,
    broker: Arc<str>,
}

impl Life {
    pub(super) fn new(call_timeout: Duration, broker: &str) -> Self {
        Self {
            closed: CancellationToken::new(),
            closing: CancellationToken::new(),
            cause: Arc::default(),
            call_timeout,
            broker: broker.into(),
        }
    }

    /// Fires when the session has ended.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    pub(super) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// Fires when our side starts to close the session. Errors after that are not failures.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Ends the session without a cause, because our side closed it.
    pub(super) fn end(&self) {
        self.closed.cancel();
    }

    /// Ends the session because of `error`. The first error is the cause.
    pub(super) fn fail(&self, error: BusError) -> BusError {
        if !self.closed.is_cancelled() && !self.closing.is_cancelled() {
            // If another task has set its error in the meantime, that error stays the cause.
            let _ = self.cause.set(error.clone());
            self.closed.cancel();
        }
        error
    }

    /// Why the session ended; `None` if our side closed it.
    pub(super) fn cause(&self) -> Option<&BusError> {
        self.cause.get()
    }

    /// Runs a call with the deadline. Any error ends the session.
    pub(super) async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, BusError> {
        self.attempt(what, call)
            .await?
            .map_err(|e| self.fail(fault::failed(format!("{what} ({})", self.broker), &e)))
    }

    /// Runs a call with the deadline. A missed deadline ends the session; an error of the broker goes to the
    /// caller.
    pub(super) async fn attempt<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<lapin::Result<T>, BusError> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(BusError::Closed),
            answer = tokio::time::timeout(self.call_timeout, call) => answer.map_err(|_| self.fail(self.timeout(what))),
        }
    }

    pub(super) fn timeout(&self, what: &'static str) -> BusError {
        BusError::Timeout { what, seconds: self.call_timeout.as_secs().max(1) }
    }
}
