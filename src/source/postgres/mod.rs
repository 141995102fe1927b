//! PostgreSQL as a source.
//!
//! In the order of a request: `catalogue` and `columns` survey the tables, `question` finds boundaries,
//! `snapshot` holds the snapshot for all chunks, `chunk` reads one chunk after the checks of `seen` and
//! `guard`, and `copy_stream` carries its rows from the connection's `tap` to the decoder. `types` maps each
//! type, and `reading` stores the result in the plan.
//!
//! Below: `session` is one transaction on a connection of `connect` (`configured` is what is known of it), which logs in with a `password`, and whose
//! stream `source/dial` opens. `end` ends the work of a connection. `sqlstate` says what an error means, with the
//! help of `privilege` and `pooler`. `quote`, `filter`, `order` and `slice` write SQL. `collation` and `path` find
//! out how to read a filter or key safely. `newer` writes the condition of an incremental export. `definitions`
//! compares at the end what a chunk could not lock.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use self::catalogue::Sizes;
use self::chunk::Limits;
use self::collation::Care;
use self::connect::Connector;
use self::greenplum::divide::Layout;
use self::pool::Connections;
use self::session::{Opening, Session};
use self::slice::{Selected, filter_of};
use self::sqlstate::Stage;
use super::{
    ChunkRead, ChunkStream, Keeper, PoolUse, Prepared, Snapshots, Source, SourceError, SourceFacts, Way,
};
use crate::config::{Advice, Origin, PostgresConfig, SourceConfig, SourceKind};
use crate::message::SourceName;
use crate::relation::pieces::{MostChunks, Pieces, Wanted};
use crate::relation::{
    Boundaries, BoundaryMethod, Column, Division, Facts, Filter, Frozen, MappingOptions, Relation, Selection,
    Slice, SplitKey, SurveyColumn, SurveyRequest,
};

mod catalogue;
mod chunk;
mod collation;
mod columns;
mod configured;
mod connect;
mod copy_stream;
mod definitions;
mod end;
mod filter;
mod greenplum;
mod guard;
mod mapping;
mod named;
mod newer;
mod order;
mod pages;
mod password;
mod path;
mod pool;
mod pooler;
mod privilege;
mod question;
mod quote;
mod reading;
mod seen;
mod server;
mod session;
mod slice;
mod snapshot;
mod sqlstate;
mod tap;
mod type_facts;
mod types;

/// A PostgreSQL database.
pub struct PostgresSource {
    name: SourceName,
    connections: Connections,
    limits: Limits,
    /// `[sources.<name>.session]`, for questions of planning. Chunks take their settings from the plan.
    session: Vec<(String, String)>,
    /// Whether the configuration says that it is Greenplum.
    greenplum: bool,
    /// Whether the configuration accepts that row-level security hides rows.
    partial_rows: bool,
    origin: Origin,
}

impl PostgresSource {
    /// Reads the configuration. Does not connect.
    ///
    /// # Errors
    /// When the connection string or its certificates cannot be read.
    pub fn new(
        name: &SourceName,
        config: &SourceConfig,
        server: &PostgresConfig,
    ) -> Result<Self, SourceError> {
        let connector = Connector::new(name, config.origin, server)?;
        let stall = config.stall_timeout().0;
        let on = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1");
        Ok(Self {
            name: name.clone(),
            connections: Connections::new(connector, config)?,
            limits: Limits { lock: server.lock_timeout.0, stall },
            session: config.session(),
            greenplum: matches!(config.kind, SourceKind::Greenplum(_)),
            origin: config.origin,
            partial_rows: config.session.get("row_security").is_some_and(|v| on(v)),
        })
    }

    /// Begins a transaction for questions of planning.
    async fn ask(
        &self,
        under: Option<&dyn Keeper>,
        settings: &[(String, String)],
    ) -> Result<Session, SourceError> {
        let opening = Opening {
            snapshot: under.map(snapshot::id).transpose()?,
            settings,
            lock_timeout_ms: self.limits.lock.as_millis(),
        };
        let session = Session::begin(&self.connections, opening).await?;
        if self.greenplum && session.server_facts().greenplum.is_none() {
            let server = self.connections.connector.server();
            return Err(SourceError::permanent(
                "kind",
                format!("source {} is configured as greenplum, and {server} is PostgreSQL", self.name),
            )
            .with_remedy("set kind = \"postgres\" for it"));
        }
        Ok(session)
    }

    /// Begins a session for questions about rows of a relation, and finds out how to read the relation
    /// safely. `key` is the column to order by.
    async fn ask_of(
        &self,
        selection: &Selected<'_>,
        key: Option<&str>,
        under: Option<&dyn Keeper>,
    ) -> Result<(Session, Care), SourceError> {
        let mut session = self.ask(under, &[]).await?;
        let (schema, name, filter) = (selection.schema, selection.name, selection.filter);
        let what = format!("look at {}", quote::shown(schema, name));
        let server = session.server_facts();
        let question = seen::question(schema, name, filter.is_some(), &server);
        let seen = seen::read(&session.rows(&question, Stage::Question, &what).await?);
        let conditions = seen::Conditions { key, filter };
        let (care, path, is_view) = match &seen {
            Some(seen) => {
                let care = match server.greenplum {
                    None => collation::care(&session, seen, conditions, Stage::Question, &what).await?,
                    Some(_) => Care { filter: filter.map(str::to_owned), ..Care::default() },
                };
                (care, path::of(seen, conditions), seen.is_view())
            }
            // The question itself will fail with a better error.
            None => (Care { filter: filter.map(str::to_owned), ..Care::default() }, None, false),
        };
        let path_setting = path.as_deref().map(|path| ("search_path", path));
        let own = self.session.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let settings: Vec<_> =
            path_setting.into_iter().chain(own).chain(care.settings.iter().copied()).collect();
        if !settings.is_empty() {
            session.set(settings).await?;
        }
        if path.is_some() && !is_view {
            path::check(&session, selection, Stage::Question, &what).await?;
        }
        Ok((session, care))
    }

    async fn try_survey(
        &self,
        request: &SurveyRequest,
        under: Option<&dyn Keeper>,
        sizes: Sizes,
    ) -> Result<Vec<Relation>, SourceError> {
        // Without settings of the configuration, because names of types depend on the search path.
        let session = self.ask(under, &[]).await?;
        let server = session.server_facts();
        if let Some(greenplum) = server.greenplum {
            let connector = &self.connections.connector;
            let relations =
                greenplum::catalogue::survey(&session, connector, greenplum, request, sizes).await?;
            session.end(named::WHAT).await?;
            return Ok(relations);
        }
        let version = server.version;
        let all_rows = (!self.partial_rows).then(|| Advice::AllRows.words(self.origin));
        let relations = catalogue::survey(&session, version, request, sizes, all_rows).await?;
        session.end(named::WHAT).await?;
        Ok(relations)
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    async fn check(&self) -> Result<SourceFacts, SourceError> {
        let session = self.ask(None, &self.session).await?;
        if session.server_facts().greenplum.is_some() {
            let facts = greenplum::cluster::check(&session, &self.connections.connector).await?;
            session.end("ask for the version").await?;
            // A snapshot that importers ignore is found out here, before a job needs it.
            snapshot::open(&self.connections.connector, Uuid::new_v4()).await?;
            return Ok(facts);
        }
        let sql = "SELECT pg_catalog.current_setting('server_version')";
        let version = session.value(sql, Stage::Question, "ask for the version").await?;
        let notes = pages::notes(&session).await?;
        session.end("ask for the version").await?;
        let version = version.unwrap_or_default();
        let version = version.split(' ').next().unwrap_or_default().to_owned();
        Ok(SourceFacts { product: "PostgreSQL".into(), version, snapshots: true, notes })
    }

    async fn close(&self) {
        let tasks = &self.connections.connector.tasks;
        tasks.close();
        tasks.wait().await;
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    async fn most_chunks(&self, under: Option<&dyn Keeper>) -> Result<Option<MostChunks>, SourceError> {
        if self.connections.connector.server_facts().greenplum.is_none() {
            return Ok(None);
        }
        let session = self.ask(under, &[]).await?;
        let limit = greenplum::cluster::most_chunks(&session).await?;
        self.connections.connector.set_limit(limit.as_ref().map(|most| most.reason.clone()));
        session.end(named::WHAT).await?;
        Ok(limit)
    }

    fn pieces(
        &self,
        relation: &Relation,
        columns: &[Column],
        wanted: &Wanted,
    ) -> Result<Option<Pieces>, SourceError> {
        let name = quote::shown(&relation.schema, &relation.name);
        let Some(layout) = relation.own.as_ref().and_then(Facts::get::<Layout>) else {
            return pages::usual_pieces(&name, wanted).map(|()| None);
        };
        let converted = reading::Readings::of(columns)?.converted();
        layout.divide(&name, wanted, converted.as_deref()).map(Some)
    }

    fn way(
        &self,
        relation: &Relation,
        columns: &[Column],
        wanted: &Wanted,
        under: Option<&dyn Keeper>,
    ) -> Way {
        pages::way(relation, columns, wanted, under.is_some_and(snapshot::is_of_primary))
    }

    fn print(&self, filter: &Filter, columns: &[SurveyColumn]) -> Result<Frozen, SourceError> {
        filter::sql(filter, columns).map(|sql| Frozen::of(&sql))
    }

    async fn survey(
        &self,
        request: &SurveyRequest,
        under: Option<&dyn Keeper>,
    ) -> Result<Vec<Relation>, SourceError> {
        match self.try_survey(request, under, Sizes::Now).await {
            Err(e) if catalogue::was_locked(&e, Sizes::Now) => {
                self.try_survey(request, under, Sizes::LastVacuum).await
            }
            other => other,
        }
    }

    fn map_column(&self, column: &SurveyColumn, options: &MappingOptions<'_>) -> Column {
        mapping::map_column(column, options)
    }

    async fn boundaries(
        &self,
        selection: &Selection<'_>,
        key: SplitKey<'_>,
        method: BoundaryMethod,
        division: Division,
        under: Option<&dyn Keeper>,
    ) -> Result<Boundaries, SourceError> {
        let filter = filter_of(selection)?;
        let selection = Selected::of(selection, filter.as_deref());
        let (session, care) = self.ask_of(&selection, None, under).await?;
        let selection = Selected { filter: care.filter.as_deref(), ..selection };
        let found = question::boundaries(&session, &selection, key, method, division).await?;
        session.end("find boundaries").await?;
        Ok(found)
    }

    async fn estimate(
        &self,
        selection: &Selection<'_>,
        under: Option<&dyn Keeper>,
    ) -> Result<u64, SourceError> {
        // EXPLAIN reads no rows, and the planner could not estimate with an opaque filter.
        let filter = filter_of(selection)?;
        let selection = Selected::of(selection, filter.as_deref());
        let (session, _) = self.ask_of(&selection, None, under).await?;
        let rows = question::estimate(&session, &selection).await?;
        session.end("estimate").await?;
        Ok(rows)
    }

    async fn count(&self, selection: &Selection<'_>, under: Option<&dyn Keeper>) -> Result<u64, SourceError> {
        let filter = filter_of(selection)?;
        let selection = Selected::of(selection, filter.as_deref());
        let (session, care) = self.ask_of(&selection, None, under).await?;
        let selection = Selected { filter: care.filter.as_deref(), ..selection };
        let rows = question::count(&session, &selection).await?;
        session.end("count").await?;
        Ok(rows)
    }

    async fn maximum(
        &self,
        selection: &Selection<'_>,
        column: &str,
        under: Option<&dyn Keeper>,
    ) -> Result<Option<String>, SourceError> {
        let filter = filter_of(selection)?;
        let selection = Selected::of(selection, filter.as_deref());
        let (session, care) = self.ask_of(&selection, Some(column), under).await?;
        let selection = Selected { filter: care.filter.as_deref(), ..selection };
        let value = question::maximum(&session, &selection, column, care.key.is_some()).await?;
        session.end("find the highest key").await?;
        Ok(value)
    }

    async fn read_chunk(&self, read: ChunkRead<'_>) -> Result<Box<dyn ChunkStream>, SourceError> {
        if matches!(read.slice, Slice::Piece(_)) {
            return greenplum::chunk::open(&self.connections, self.limits, read).await;
        }
        chunk::open(&self.connections, self.limits, read).await
    }

    fn pool_use(&self) -> PoolUse {
        self.connections.usage()
    }
}

#[async_trait]
impl Snapshots for PostgresSource {
    async fn open(&self, lineage: Uuid) -> Result<Arc<dyn Keeper>, SourceError> {
        snapshot::open(&self.connections.connector, lineage).await
    }

    async fn join(
        &self,
        lineage: Uuid,
        prepared: Option<Prepared>,
    ) -> Result<Option<Arc<dyn Keeper>>, SourceError> {
        // The connection that looks for keepers tells whether it is Greenplum.
        let connector = &self.connections.connector;
        if !connector.is_known() {
            self.ask(None, &[]).await?.end("look at the server").await?;
        }
        if connector.server_facts().greenplum.is_none() {
            return snapshot::join(connector, lineage).await;
        }
        let prepared = prepared.and_then(|prepared| prepared.downcast().ok()).map(|prepared| *prepared);
        snapshot::join_greenplum(connector, lineage, prepared).await
    }

    fn must_prepare(&self) -> bool {
        self.greenplum || self.connections.connector.server_facts().greenplum.is_some()
    }

    async fn prepare(&self) -> Result<Option<Prepared>, SourceError> {
        if !self.must_prepare() {
            return Ok(None);
        }
        let prepared = snapshot::begin_early(&self.connections.connector).await?;
        Ok(Some(Box::new(prepared)))
    }

    async fn keepers(&self, lineage: Uuid) -> Result<u32, SourceError> {
        snapshot::keepers(&self.connections.connector, lineage).await
    }
}
