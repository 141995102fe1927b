//! The pool of a source: connections for chunks and questions.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, TimeoutType};

use super::connect::{Connector, Pooled};
use crate::config::{Advice, SourceConfig};
use crate::source::{PoolUse, SourceError};

/// Longest wait for a free connection of the pool: workers take no more chunks
/// than it has, so a long wait means that something is wrong.
const POOL_WAIT: Duration = Duration::from_secs(60);

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
        match conn.client.simple_query("").await {
            Ok(_) => Ok(()),
            Err(e) => Err(RecycleError::Message(e.to_string().into())),
        }
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
