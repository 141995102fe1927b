//! Vertica as a source.
//!
//! In the order of a request: `catalogue` surveys the tables (`described` their columns, `stored` their rows),
//! `types`, `complex` and `columns` map each type, `divide` cuts tables as their rows are stored (pure), `epoch` is
//! the snapshot that all chunks read, `chunk` reads one chunk after and before its checks, and `result` compares the
//! types that the server sends with the plan. `reading` and `condition` are what a plan stores of columns and chunks.
//!
//! Below: `asking` asks about the catalogue, `statements` has every statement that is sent, `filter` writes
//! conditions of requests, `sessions` is the pool, `login` says where sessions log in. `wire` is the client: it
//! speaks the server's own protocol. `sqlstate` says what an error means.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use self::epoch::{EpochKeeper, Epochs};
use self::login::Logins;
use self::sessions::Sessions;
use self::sqlstate::Stage;
use self::statements::{Epoch, From, Statement};
use super::sql::quote::shown;
use super::{ChunkRead, ChunkStream, Keeper, PoolUse, Prepared, Snapshots, Source, SourceError, SourceFacts};
use crate::config::{Advice, SourceConfig, VerticaConfig};
use crate::message::SourceName;
use crate::relation::pieces::{MostChunks, Pieces, Wanted};
use crate::relation::{
    Boundaries, BoundaryMethod, Column, Division, Filter, Frozen, MappingOptions, Relation, Selection,
    Snapshot, SplitKey, SurveyColumn, SurveyRequest,
};

mod asking;
mod catalogue;
mod chunk;
mod columns;
mod complex;
mod condition;
mod described;
mod divide;
mod epoch;
mod filter;
mod login;
mod reading;
mod result;
mod sessions;
mod sqlstate;
mod statements;
mod stored;
mod types;
mod wire;

/// Sessions on each node that read chunks at once, unless `max_parallel` says more or less.
const CHUNKS_OF_NODE: u64 = 4;

/// A Vertica database.
pub struct VerticaSource {
    name: SourceName,
    sessions: Sessions,
    /// Whether the number of nodes limits the chunks at once.
    by_nodes: bool,
    resource_pool: Option<String>,
}

impl VerticaSource {
    /// Reads the configuration. Does not connect.
    ///
    /// # Errors
    /// When the connection string or its certificates cannot be read.
    pub fn new(
        name: &SourceName,
        config: &SourceConfig,
        server: &VerticaConfig,
    ) -> Result<Self, SourceError> {
        let logins = Logins::new(name, config, server)?;
        Ok(Self {
            name: name.clone(),
            sessions: Sessions::new(logins, config, server)?,
            by_nodes: server.by_nodes,
            resource_pool: server.resource_pool.clone(),
        })
    }

    /// Asks a question whose answer is one row of one number.
    async fn number(&self, statement: &Statement, what: &str) -> Result<u64, SourceError> {
        let answer = self.sessions.get().await?.query(statement, Stage::Question, what).await?;
        let number = answer.rows().next().map(|row| row.int(0)).transpose()?.flatten();
        number.and_then(|number| u64::try_from(number).ok()).ok_or_else(|| {
            SourceError::permanent("protocol", format!("{what}: the server answers without a number"))
                .with_remedy(Advice::NotVertica)
        })
    }

    async fn rows_of(
        &self,
        selection: &Selection<'_>,
        under: Option<&dyn Keeper>,
    ) -> Result<u64, SourceError> {
        let (filter, epoch) = (filter_of(selection)?, epoch_of(under)?);
        let from = from(selection, epoch, filter.as_deref());
        let what = format!("count the rows of {}", shown(selection.schema, selection.name));
        self.number(&statements::count(&from), &what).await
    }
}

/// The filter of a selection, in SQL.
fn filter_of(selection: &Selection<'_>) -> Result<Option<String>, SourceError> {
    selection.filter.map(Frozen::thaw).transpose().map_err(|_| {
        let name = shown(selection.schema, selection.name);
        SourceError::permanent(
            "filter",
            format!("the filter of {name} was planned for another kind of source"),
        )
        .with_remedy("export the table again")
    })
}

fn epoch_of(under: Option<&dyn Keeper>) -> Result<Option<Epoch>, SourceError> {
    under.map(|keeper| EpochKeeper::of(keeper).map(EpochKeeper::epoch)).transpose()
}

fn from<'a>(selection: &Selection<'a>, epoch: Option<Epoch>, filter: Option<&'a str>) -> From<'a> {
    From { epoch, schema: selection.schema, name: selection.name, filter }
}

#[async_trait]
impl Source for VerticaSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    async fn check(&self) -> Result<SourceFacts, SourceError> {
        let what = "ask for the version";
        let mut session = self.sessions.get().await?;
        let answer = session.query(&statements::version(), Stage::Question, what).await?;
        let version = answer.rows().next().map(|row| row.text(0)).transpose()?.flatten().unwrap_or_default();
        let version = version.trim_start_matches("Vertica Analytic Database").trim().to_owned();
        let nodes = catalogue::nodes(&mut session).await?;
        let epochs = Epochs::ask(&mut session, Stage::Question, what).await?;
        let mut notes = vec![
            format!("{} up", crate::text::count(nodes.up, "node")),
            format!(
                "server epoch {} is readable, the ancient history mark is at {}",
                epochs.last_closed, epochs.ahm
            ),
        ];
        if epochs.ahm >= epochs.last_closed {
            notes.push(
                "the mark follows at once, so long jobs lose their epoch: set HistoryRetentionTime".into(),
            );
        }
        if catalogue::policies(&mut session).await?.is_none() {
            notes.push(
                "cannot tell whether access policies hide rows or change values: the user may not read \
                 v_catalog.access_policy (GRANT SELECT ON v_catalog.access_policy, and only a superuser sees all)"
                    .into(),
            );
        }
        notes.push(catalogue::visible(&mut session).await?);
        notes.extend(nodes.down.iter().map(|node| format!("node {node}")));
        notes.extend(self.resource_pool.iter().map(|pool| format!("resource pool {pool}")));
        Ok(SourceFacts { product: "Vertica".into(), version, snapshots: true, notes })
    }

    async fn survey(
        &self,
        request: &SurveyRequest,
        _under: Option<&dyn Keeper>,
    ) -> Result<Vec<Relation>, SourceError> {
        // The catalogue shows the present in every epoch.
        catalogue::survey(&mut self.sessions.get().await?, request).await
    }

    fn map_column(&self, column: &SurveyColumn, options: &MappingOptions<'_>) -> Column {
        columns::map_column(column, options)
    }

    fn pieces(
        &self,
        relation: &Relation,
        _columns: &[Column],
        wanted: &Wanted,
    ) -> Result<Option<Pieces>, SourceError> {
        divide::divide(relation, wanted, &shown(&relation.schema, &relation.name))
    }

    fn caution(&self, relation: &Relation) -> Option<String> {
        divide::Layout::of(relation).filter(|layout| layout.partitioned).map(|_| {
            "do not swap or move partitions of it while it is exported: Vertica shows the moved rows in all epochs"
                .to_owned()
        })
    }

    async fn most_chunks(&self, _under: Option<&dyn Keeper>) -> Result<Option<MostChunks>, SourceError> {
        if !self.by_nodes {
            return Ok(None);
        }
        let nodes = catalogue::nodes(&mut self.sessions.get().await?).await?.up;
        let chunks = u32::try_from(CHUNKS_OF_NODE * nodes).unwrap_or(u32::MAX);
        let reason = format!("{CHUNKS_OF_NODE} chunks on each of {}", crate::text::count(nodes, "node"));
        Ok(Some(MostChunks { chunks, reason }))
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn print(&self, filter: &Filter, columns: &[SurveyColumn]) -> Result<Frozen, SourceError> {
        filter::sql(filter, columns).map(|sql| Frozen::of(&sql))
    }

    async fn boundaries(
        &self,
        selection: &Selection<'_>,
        key: SplitKey<'_>,
        _method: BoundaryMethod,
        division: Division,
        under: Option<&dyn Keeper>,
    ) -> Result<Boundaries, SourceError> {
        let (filter, epoch) = (filter_of(selection)?, epoch_of(under)?);
        let what = format!("find boundaries of {}", shown(selection.schema, selection.name));
        let from = from(selection, epoch, filter.as_deref());
        let none = Boundaries { values: Vec::new(), method: BoundaryMethod::OrderedPass };
        if division.ranges < 2 {
            return Ok(none);
        }
        let all = self.number(&statements::count(&from), &what).await?;
        let rows = division.rows.max(all.div_ceil(u64::from(division.ranges))).max(1);
        let statement = statements::every_nth(&from, key.column, rows);
        let answer = self.sessions.get().await?.query(&statement, Stage::Question, &what).await?;
        let mut values: Vec<String> = Vec::new();
        for row in answer.rows() {
            values.extend(row.text(0)?.map(str::to_owned));
        }
        values.dedup();
        Ok(Boundaries { values, ..none })
    }

    async fn estimate(
        &self,
        selection: &Selection<'_>,
        under: Option<&dyn Keeper>,
    ) -> Result<u64, SourceError> {
        // Only the columns of the filter are read for this.
        self.rows_of(selection, under).await
    }

    async fn count(&self, selection: &Selection<'_>, under: Option<&dyn Keeper>) -> Result<u64, SourceError> {
        self.rows_of(selection, under).await
    }

    async fn counts(
        &self,
        selections: &[Selection<'_>],
        under: Option<&dyn Keeper>,
    ) -> Result<Vec<u64>, SourceError> {
        if let [one] = selections {
            return Ok(vec![self.rows_of(one, under).await?]);
        }
        let epoch = epoch_of(under)?;
        let filters = selections.iter().map(filter_of).collect::<Result<Vec<_>, _>>()?;
        let each: Vec<From<'_>> = selections
            .iter()
            .zip(&filters)
            .map(|(selection, filter)| from(selection, epoch, filter.as_deref()))
            .collect();
        let what = format!("count the rows of {}", crate::text::count(each.len() as u64, "table"));
        let statement = statements::counts(epoch, &each);
        let answer = self.sessions.get().await?.query(&statement, Stage::Question, &what).await?;
        let mut counts = vec![None; each.len()];
        for row in answer.rows() {
            let place = row.int(0)?.and_then(|place| usize::try_from(place).ok());
            if let Some(slot) = place.and_then(|place| counts.get_mut(place)) {
                *slot = row.int(1)?.and_then(|rows| u64::try_from(rows).ok());
            }
        }
        counts.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| {
            SourceError::permanent("protocol", format!("{what}: the server does not answer for each of them"))
                .with_remedy(Advice::NotVertica)
        })
    }

    async fn maximum(
        &self,
        selection: &Selection<'_>,
        column: &str,
        under: Option<&dyn Keeper>,
    ) -> Result<Option<String>, SourceError> {
        let (filter, epoch) = (filter_of(selection)?, epoch_of(under)?);
        let what = format!("find the highest key of {}", shown(selection.schema, selection.name));
        let statement = statements::maximum(&from(selection, epoch, filter.as_deref()), column);
        let answer = self.sessions.get().await?.query(&statement, Stage::Question, &what).await?;
        let value = answer.rows().next().map(|row| row.text(0)).transpose()?.flatten();
        Ok(value.map(str::to_owned))
    }

    async fn read_chunk(&self, read: ChunkRead<'_>) -> Result<Box<dyn ChunkStream>, SourceError> {
        chunk::open(&self.sessions, read).await
    }

    async fn close(&self) {
        self.sessions.close().await;
    }

    fn pool_use(&self) -> PoolUse {
        self.sessions.usage()
    }
}

#[async_trait]
impl Snapshots for VerticaSource {
    async fn open(&self, lineage: Uuid) -> Result<Arc<dyn Keeper>, SourceError> {
        let mut session = self.sessions.get().await?;
        let epochs = Epochs::ask(&mut session, Stage::Question, "find the last closed epoch").await?;
        epochs.check(epochs.last_closed)?;
        Ok(EpochKeeper::of_now(lineage, &epochs))
    }

    async fn join(&self, _: Uuid, _: Option<Prepared>) -> Result<Option<Arc<dyn Keeper>>, SourceError> {
        Ok(None)
    }

    fn recalls(&self) -> bool {
        true
    }

    async fn recall(&self, snapshot: &Snapshot) -> Result<Arc<dyn Keeper>, SourceError> {
        let keeper = EpochKeeper::recalled(snapshot)?;
        let mut session = self.sessions.get().await?;
        Epochs::ask(&mut session, Stage::Question, "look for the job's server epoch")
            .await?
            .check(keeper.epoch())?;
        Ok(keeper)
    }

    fn may_lose_rows(&self) -> bool {
        true
    }

    async fn keepers(&self, _: Uuid) -> Result<u32, SourceError> {
        Ok(0)
    }
}
