//! The pool of a source: connections for chunks and questions.
//!
//! The pool is `deadpool`'s, and what it holds is the `ClientWrapper` of `deadpool-postgres` with its
//! way of recycling. The manager is ours: that crate's own one has no place for the tap beside the
//! client, nor for our errors of dialing.
//!
//! The wrapper's cache of prepared statements stays empty on purpose:
//! - PgBouncer in transaction mode may give the next transaction another session of the server. A
//!   statement that outlives its transaction is missing there, and its name (`s0`, `s1`, …, counted in
//!   each process) is in the way of the next client of the session that has it. A client cannot tell
//!   whether PgBouncer stands in between.
//! - A chunk prepares two statements. Of the first, `guard` wants to know what the names of columns
//!   mean *now*; a cache would answer what they meant before. The other is its COPY, whose bounds no
//!   other chunk has: each would stay for as long as the connection, here and on the server, and never
//!   be used again.
//! - All else is asked in simple queries: several in one message, with no round trip to prepare them.
//!
//! So statements live no longer than their transaction, on the session that prepared them.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, TimeoutType};
use deadpool_postgres::RecyclingMethod;

use super::connect::{Connector, Pooled};
use crate::config::{Advice, SourceConfig};
use crate::source::{PoolUse, SourceError};

/// Longest wait for a free connection of the pool: workers take no more chunks
/// than it has, so a long wait means that something is wrong.
const POOL_WAIT: Duration = Duration::from_secs(60);

/// How a connection is looked at before it is used again: the server must answer. Nothing is left on it to clean up.
const RECYCLING: RecyclingMethod = RecyclingMethod::Verified;

/// The pool of a source.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) connector: Arc<Connector>,
    pool: Pool<Manager>,
    allowed: u32,
}

/// How the pool makes connections and looks whether they live.
pub(super) struct Manager(Arc<Connector>);

impl managed::Manager for Manager {
    type Type = Pooled;
    type Error = SourceError;

    async fn create(&self) -> Result<Pooled, SourceError> {
        self.0.pooled().await
    }

    async fn recycle(&self, conn: &mut Pooled, _: &Metrics) -> RecycleResult<SourceError> {
        if conn.client.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        if let Some(question) = RECYCLING.query() {
            conn.client.simple_query(question).await.map_err(|e| RecycleError::message(e.to_string()))?;
        }
        Ok(())
    }
}

impl Connections {
    pub(super) fn new(connector: Connector, config: &SourceConfig) -> Result<Self, SourceError> {
        let server = connector.server().to_owned();
        let connector = Arc::new(connector);
        let allowed = config.pool_size.get();
        let pool = Pool::builder(Manager(connector.clone()))
            .max_size(allowed as usize)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(POOL_WAIT))
            .recycle_timeout(Some(connector.timeout()))
            .build()
            .map_err(|e| {
                SourceError::permanent("pool", format!("cannot build the connection pool for {server}: {e}"))
                    .with_remedy(Advice::Pool)
            })?;
        Ok(Self { connector, pool, allowed })
    }

    /// A connection that was just seen alive.
    pub(super) async fn get(&self) -> Result<Object<Manager>, SourceError> {
        match self.pool.get().await {
            Ok(conn) => Ok(conn),
            Err(PoolError::Backend(e)) => Err(e),
            Err(PoolError::Timeout(TimeoutType::Wait)) => Err(SourceError::exhausted(
                "pool",
                format!("all {} connections of the pool are busy", self.allowed),
            )
            .with_remedy(Advice::Pool)),
            Err(PoolError::Timeout(_)) => Err(self.connector.silent()),
            Err(e) => Err(SourceError::transient(
                "pool",
                format!("no connection to {}: {e}", self.connector.server()),
            )),
        }
    }

    /// What the pool is doing now.
    pub(super) fn usage(&self) -> PoolUse {
        let status = self.pool.status();
        let busy = status.size.saturating_sub(status.available);
        PoolUse { idle: status.available, busy, waiting: status.waiting }
    }
}
