//! Ends the work of connections from outside: by cancel requests, or on Greenplum by another session.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::connect::{APPLICATION_NAME, Agreed, Connector, Opened, Pooled};
use super::tap::Tap;
use crate::source::SourceError;

/// Pauses after each cancel request before the next one. A cancel request that arrives between two statements
/// has no effect.
const CANCEL_PAUSES: [Duration; 4] =
    [Duration::from_millis(300), Duration::from_millis(700), Duration::from_secs(1), Duration::from_secs(2)];
/// Longest time that sending one cancel request may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

impl Connector {
    /// Ends the work of a connection on the server and closes it. The connection must be out of the pool.
    /// Returns once the server has ended the work, or after a limited time. `process` is the server's process, if
    /// it is known.
    pub(super) async fn end(&self, conn: Pooled, process: Option<i32>) {
        // Rows that still arrive must not wait for a reader.
        conn.tap.discard();
        if conn.client.is_closed() {
            return;
        }
        if let Some(process) = process.filter(|_| self.server_facts().greenplum.is_some())
            && timeout(CANCEL_TIMEOUT, self.terminate(process)).await.is_ok_and(|ended| ended.is_ok())
        {
            return;
        }
        // The server answers only after the previous statement has ended.
        let idle = conn.client.batch_execute("ROLLBACK");
        tokio::pin!(idle);
        for pause in CANCEL_PAUSES {
            self.cancel(&conn).await;
            if timeout(pause, &mut idle).await.is_ok() {
                break;
            }
        }
    }

    /// Ends a session of Greenplum from another session of the same role. Its COPY of a table answers a cancel
    /// request only when all segments have sent their rows, which may take an hour.
    async fn terminate(&self, process: i32) -> Result<(), SourceError> {
        let Opened { client, connection, .. } = self.open(APPLICATION_NAME).await?;
        let ask = async {
            let sql = format!("SELECT pg_catalog.pg_terminate_backend({process})");
            client.simple_query(&sql).await.map_err(|e| self.refused(&e))
        };
        tokio::select! {
            asked = ask => asked.map(|_| ()),
            _ = connection => Err(self.silent()),
        }
    }

    /// Like `end`, for callers that cannot wait.
    pub(super) fn abandon(self: &Arc<Self>, conn: Pooled, process: Option<i32>) {
        // Without a runtime the process is ending and closes its sockets.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let connector = self.clone();
            self.tasks.spawn_on(async move { connector.end(conn, process).await }, &runtime);
        }
    }

    async fn cancel(&self, conn: &Pooled) {
        let request = async {
            let wire = self.dialer.open(&conn.address).await.map_err(|e| e.to_string())?;
            let request = conn.client.cancel_token();
            request.cancel_query_raw(Tap::new(wire).0, Agreed).await.map_err(|e| e.to_string())
        };
        match timeout(CANCEL_TIMEOUT, request).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error, "a cancel request failed"),
            Err(_) => tracing::debug!("a cancel request timed out"),
        }
    }
}
