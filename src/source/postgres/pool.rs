//! The connection pool of a source, for chunks and questions.
//!
//! The pool is `deadpool`'s. It holds the `ClientWrapper` of `deadpool-postgres` and recycles it in the same
//! way. The manager is ours, because the one of that crate has no place for the tap beside the client, nor
//! for our errors of dialing.
//!
//! The wrapper's cache of prepared statements stays empty on purpose:
//! - PgBouncer in transaction mode may give the next transaction another session of the server. A
//!   statement from an earlier transaction does not exist there. Its name (`s0`, `s1`, …, counted in each
//!   process) would also collide with the statements of the next client of the old session. A client
//!   cannot tell whether PgBouncer stands in between.
//! - A chunk prepares two statements. With the first, `guard` asks what the names of columns mean *now*.
//!   A cache would answer what they meant before. The second is the COPY. No other chunk has the same
//!   bounds, so a cached statement would never be used again, but would stay here and on the server as
//!   long as the connection.
//! - Everything else uses simple queries: several fit into one message, without a round trip to prepare.
//!
//! So a statement lives only as long as its transaction, on the session that prepared it.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, TimeoutType};
use deadpool_postgres::RecyclingMethod;

use super::connect::{Connector, Pooled};
use crate::config::{Advice, SourceConfig};
use crate::source::{PoolUse, SourceError};

/// Longest wait for a free connection. Workers take no more chunks than the pool has connections, so a long
/// wait means that something is wrong.
const POOL_WAIT: Duration = Duration::from_secs(60);

/// How a connection is checked before it is used again: the server must answer. There is nothing to clean up.
const RECYCLING: RecyclingMethod = RecyclingMethod::Verified;

/// The pool of a source.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) connector: Arc<Connector>,
    pool: Pool<Manager>,
    allowed: u32,
}

/// Makes the connections of the pool and checks whether they live.
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

    /// A connection that has just been checked.
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

    /// How many connections are in use now.
    pub(super) fn usage(&self) -> PoolUse {
        let status = self.pool.status();
        let busy = status.size.saturating_sub(status.available);
        PoolUse { idle: status.available, busy, waiting: status.waiting }
    }
}
