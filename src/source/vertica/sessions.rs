//! The sessions of a source: a pool, and how a session leaves it when its work is not finished.
//!
//! The pool is `deadpool`'s. A session is one connection to one node; it goes back to the pool only after the
//! server said that it is ready for the next statement. A session with unfinished work is cancelled from a second
//! connection and closed, also when the future that worked with it was dropped: the server's session is freed
//! then.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, TimeoutType};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::login::Logins;
use super::sqlstate::Stage;
use super::statements::{self, Statement};
use super::wire::{self, Answer, Description, Session};
use crate::config::{Advice, SourceConfig, VerticaConfig};
use crate::source::decode::stream::Block;
use crate::source::{PoolUse, SourceError};

/// Longest wait for a free session. Workers take no more chunks than the pool has sessions, so a long wait means
/// that something is wrong.
const POOL_WAIT: Duration = Duration::from_secs(60);

/// The sessions of a source.
pub(super) struct Sessions {
    pool: Pool<Manager>,
    logins: Arc<Logins>,
    allowed: u32,
    /// Tasks that outlive a call: pumps, and sessions that are being ended.
    tasks: TaskTracker,
}

/// Makes the sessions of the pool.
pub(super) struct Manager {
    logins: Arc<Logins>,
    resource_pool: Option<String>,
}

impl managed::Manager for Manager {
    type Type = Session;
    type Error = SourceError;

    async fn create(&self) -> Result<Session, SourceError> {
        let mut session = Session::open(&self.logins.next().await?).await?;
        let limit = self.logins.connect_timeout();
        let done = timeout(limit, self.set_up(&mut session)).await;
        done.unwrap_or_else(|_| {
            let message = format!("set up a session of {}: no answer within {limit:?}", self.logins.server());
            Err(SourceError::unreachable(message).with_remedy(Advice::Silence))
        })?;
        Ok(session)
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<SourceError> {
        if session.is_healthy() { Ok(()) } else { Err(RecycleError::message("the session is closed")) }
    }
}

impl Manager {
    async fn set_up(&self, session: &mut Session) -> Result<(), SourceError> {
        for setting in [statements::time_zone(), statements::date_style()] {
            session.query(&of(&setting, Stage::Setup, "set up a session")).await?;
        }
        if let Some(pool) = &self.resource_pool {
            let what = format!("choose the resource pool {pool:?}");
            session.query(&of(&statements::resource_pool(pool), Stage::Pool, &what)).await?;
        }
        Ok(())
    }
}

/// The only place that hands SQL to the client: nothing but a listed statement comes here.
fn of<'a>(statement: &'a Statement, stage: Stage, what: &'a str) -> wire::Statement<'a> {
    wire::Statement { sql: statement.text(), stage, what }
}

impl Sessions {
    pub(super) fn new(
        logins: Logins,
        config: &SourceConfig,
        server: &VerticaConfig,
    ) -> Result<Self, SourceError> {
        let logins = Arc::new(logins);
        let allowed = config.pool_size.get();
        let manager = Manager { logins: Arc::clone(&logins), resource_pool: server.resource_pool.clone() };
        let pool = Pool::builder(manager)
            .max_size(allowed as usize)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(POOL_WAIT))
            .build()
            .map_err(|e| {
                let server = logins.server();
                SourceError::permanent("pool", format!("cannot build the connection pool for {server}: {e}"))
                    .with_remedy(Advice::Pool)
            })?;
        Ok(Self { pool, logins, allowed, tasks: TaskTracker::new() })
    }

    /// A session that is ready for a statement.
    pub(super) async fn get(&self) -> Result<Leased, SourceError> {
        match self.pool.get().await {
            Ok(session) => Ok(Leased { session: Some(session), is_busy: false, tasks: self.tasks.clone() }),
            Err(PoolError::Backend(e)) => Err(e),
            Err(PoolError::Timeout(TimeoutType::Wait)) => Err(SourceError::exhausted(
                "pool",
                format!("all {} connections of the pool are busy", self.allowed),
            )
            .with_remedy(Advice::Pool)),
            Err(e) => {
                Err(SourceError::transient("pool", format!("no session of {}: {e}", self.logins.server())))
            }
        }
    }

    /// Longest time without a byte.
    pub(super) fn stall(&self) -> Duration {
        self.logins.stall()
    }

    /// Tasks that outlive a call.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// How many sessions are in use now.
    pub(super) fn usage(&self) -> PoolUse {
        let status = self.pool.status();
        let busy = status.size.saturating_sub(status.available);
        PoolUse { idle: status.available, busy, waiting: status.waiting }
    }

    /// Waits until sessions that are being ended are gone.
    pub(super) async fn close(&self) {
        self.pool.close();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// A session that somebody works with. Dropping it while a statement runs ends the statement on the server.
pub(super) struct Leased {
    session: Option<Object<Manager>>,
    /// Whether the server owes us the end of a statement.
    is_busy: bool,
    tasks: TaskTracker,
}

impl Leased {
    fn session(&mut self) -> Result<&mut Session, SourceError> {
        let session = self.session.as_mut();
        session.map(|session| &mut **session).ok_or_else(|| {
            SourceError::transient("connection_closed", "the session was closed after an earlier error")
        })
    }

    /// The whole answer to a statement.
    pub(super) async fn query(
        &mut self,
        statement: &Statement,
        stage: Stage,
        what: &str,
    ) -> Result<Answer, SourceError> {
        self.is_busy = true;
        let session = self.session()?;
        let answer = session.query(&of(statement, stage, what)).await;
        self.is_busy = answer.is_err() && !session.is_healthy();
        answer
    }

    /// Begins a result that [`Self::next`] reads.
    pub(super) async fn rows(
        &mut self,
        statement: &Statement,
        stage: Stage,
        what: &str,
    ) -> Result<Description, SourceError> {
        self.is_busy = true;
        let session = self.session()?;
        let rows = session.rows(&of(statement, stage, what)).await;
        self.is_busy = rows.is_ok() || !session.is_healthy();
        rows
    }

    /// The next bytes of the result; `None` after its confirmed end.
    pub(super) async fn next(&mut self) -> Result<Option<Block>, SourceError> {
        let session = self.session()?;
        let next = session.next().await;
        self.is_busy = match &next {
            Ok(rows) => rows.is_some(),
            Err(_) => !session.is_healthy(),
        };
        next
    }

    /// Ends the statement that runs, and closes the session. Returns once the server has ended the work, or after
    /// a limited time.
    pub(super) async fn abort(mut self) {
        if let Some(session) = self.session.take() {
            Object::take(session).stop().await;
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        if !self.is_busy {
            return drop(session);
        }
        let session = Object::take(session);
        // Without a runtime the process is ending and closes its sockets.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tasks.spawn_on(session.stop(), &runtime);
        }
    }
}
