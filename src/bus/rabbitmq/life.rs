//! One life of a connection pair: it ends once, with one cause, and every call
//! to the broker within it has a deadline.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::BusError;
use super::fault;

/// Shared by everything that belongs to a session.
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

    /// Fires when the life is over.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    pub(super) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// Fires when somebody closes the session: what breaks from then on is no failure.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Ends the life without a cause: somebody closed the session.
    pub(super) fn end(&self) {
        self.closed.cancel();
    }

    /// Ends the life because of `error`; the first one is the cause.
    pub(super) fn fail(&self, error: BusError) -> BusError {
        if !self.closed.is_cancelled() && !self.closing.is_cancelled() {
            // Somebody else may be faster: then theirs is the cause.
            let _ = self.cause.set(error.clone());
            self.closed.cancel();
        }
        error
    }

    /// Why the life ended; none if somebody closed it.
    pub(super) fn cause(&self) -> Option<&BusError> {
        self.cause.get()
    }

    /// A call with the deadline. Whatever goes wrong ends the life.
    pub(super) async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, BusError> {
        self.attempt(what, call)
            .await?
            .map_err(|e| self.fail(fault::failed(format!("{what} ({})", self.broker), &e)))
    }

    /// A call with the deadline whose refusal the caller handles.
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
