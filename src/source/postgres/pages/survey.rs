//! What a survey asks about tables that are large enough to be read by pages: always whether that may be, and for
//! `auto` also whether it does harm.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::super::named::{WHAT, oid_array};
use super::super::quote::ident;
use super::super::session::Session;
use super::super::sqlstate::Stage;
use super::care::{Care, may_be_cached};
use super::facts::{self, Table};
use super::server::Server;
use crate::relation::Facts;
use crate::source::SourceError;

/// What a survey finds out about a table that has enough pages.
pub(in super::super) struct PageFacts {
    pub(super) server: Arc<Server>,
    pub(super) table: Table,
    /// None if nobody asked whether pages do harm.
    pub(super) care: Option<Care>,
}

/// Asks about these tables, given by oid. `careful`: also what decides for `auto`.
pub(in super::super) async fn survey(
    session: &Session,
    large: Vec<u32>,
    careful: bool,
) -> Result<HashMap<u32, Facts>, SourceError> {
    if large.is_empty() {
        return Ok(HashMap::new());
    }
    let question = facts::question(&oid_array(large.into_iter()));
    let rows = session.rows(&question, Stage::Question, WHAT).await?;
    let Some((server, tables)) = facts::read(&rows, session.version()) else { return Ok(HashMap::new()) };
    let is_open = server.doubt().is_none();
    let mut cares = match careful && is_open {
        true => care(session, &server, &tables).await?,
        false => HashMap::new(),
    };
    let server = Arc::new(server);
    let facts = |(oid, table): (u32, Table)| {
        let care = cares.remove(&oid);
        (oid, Facts::of(PageFacts { server: Arc::clone(&server), table, care }))
    };
    Ok(tables.into_iter().map(facts).collect())
}

/// What decides whether `auto` reads the pages of these tables.
async fn care(
    session: &Session,
    server: &Server,
    tables: &HashMap<u32, Table>,
) -> Result<HashMap<u32, Care>, SourceError> {
    let mut eligible: Vec<&Table> = tables.values().filter(|table| table.doubt(server).is_none()).collect();
    if eligible.is_empty() {
        return Ok(HashMap::new());
    }
    eligible.sort_unstable_by_key(|table| table.oid);
    let mut cares: HashMap<u32, Care> = eligible.iter().map(|table| (table.oid, Care::default())).collect();
    let oids = oid_array(eligible.iter().map(|table| table.oid));
    session
        .each(&widths_question(&oids), Stage::Question, WHAT, |row| {
            let care = row.get(0).and_then(|oid| cares.get_mut(&oid.parse().ok()?));
            let (Some(care), Some(column)) = (care, row.get(1)) else { return };
            if let Some(width) = row.get(2).and_then(|width| width.parse().ok()) {
                care.widths.insert(column.to_owned(), width);
            }
        })
        .await?;
    let files: BTreeMap<u32, u32> = eligible
        .iter()
        .filter(|table| may_be_cached(server, table))
        .map(|table| (table.file, table.oid))
        .collect();
    if let Some(schema) = &server.cache
        && !files.is_empty()
    {
        let sql = cached_question(schema, &oid_array(files.keys().copied()));
        session
            .each(&sql, Stage::Question, WHAT, |row| {
                let file: Option<u32> = row.get(0).and_then(|file| file.parse().ok());
                let oid = file.and_then(|file| files.get(&file));
                if let Some(care) = oid.and_then(|oid| cares.get_mut(oid)) {
                    care.cached = row.get(1).and_then(|pages| pages.parse().ok());
                }
            })
            .await?;
    }
    Ok(cares)
}

/// SQL with a row for each column of these relations that has statistics: bytes of its value in a mean row.
fn widths_question(oids: &str) -> String {
    format!(
        "SELECT c.oid, s.attname, s.avg_width OPERATOR(pg_catalog.*) (1 OPERATOR(pg_catalog.-) s.null_frac) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND NOT s.inherited \
         WHERE c.oid = ANY ({oids})"
    )
}

/// SQL with the number of pages of these files that are in the buffers.
fn cached_question(schema: &str, files: &str) -> String {
    format!(
        "SELECT b.relfilenode, pg_catalog.count(*) FROM {}.pg_buffercache b \
         WHERE b.relfilenode = ANY ({files}) AND b.relforknumber = 0 \
           AND b.reldatabase = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
         GROUP BY b.relfilenode",
        ident(schema)
    )
}
