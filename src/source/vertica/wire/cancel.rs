//! Ends a statement from a second connection.
//!
//! The request names the session by the key that the server gave it, and travels without TLS, as it does from
//! the vendor's clients (`connection.py: cancel`, `stmt.go: QueryContextRaw`). Who reads the key can end
//! statements of this session, and nothing else. The server does not answer; it closes the connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::backend::Key;
use super::frontend;
use crate::source::dial::{Address, Dialer};

/// Longest time that one request may take.
const LONGEST: Duration = Duration::from_secs(2);

/// Ends statements of one session.
#[derive(Clone)]
pub(in super::super) struct Canceller {
    dialer: Dialer,
    /// The node that has the session.
    address: Address,
    key: Option<Key>,
}

impl Canceller {
    pub(super) fn new(dialer: Dialer, address: Address, key: Option<Key>) -> Self {
        Self { dialer, address, key }
    }

    /// Asks the server to end what the session is doing. Returns when the server has read the request, or after
    /// two seconds. A request that arrives between two statements has no effect.
    pub(in super::super) async fn cancel(&self) {
        let Some(key) = self.key else { return };
        let request = async {
            let mut socket = self.dialer.socket(&self.address).await.map_err(|error| error.to_string())?;
            socket.write_all(&frontend::cancel(key)).await.map_err(|error| error.to_string())?;
            // The end of the stream; a reset means the same.
            let _ = socket.read(&mut [0]).await;
            Ok::<_, String>(())
        };
        match timeout(LONGEST, request).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error, "a cancel request failed"),
            Err(_) => tracing::debug!("a cancel request timed out"),
        }
    }
}
