//! Decides in a chunk's own transaction, under its lock, whether the chunk is read by pages. Any doubt means
//! COPY: nothing fails because pages cannot be read.

use std::ops::Range;

use futures_util::future::join3;

use super::super::pool::Connections;
use super::super::quote::{ident, literal, table};
use super::super::reading::Readings;
use super::super::seen::SeenRelation;
use super::super::session::{Opening, Session};
use super::super::slice::{Selected, from_only_where, from_where, select_list};
use super::super::sqlstate::Stage;
use super::columns::{CatalogueColumn, form, layout, not_taken};
use super::facts::{self, SchemaRow, Table};
use super::route::Route;
use super::scan::is_bare;
use super::server::Server;
use super::stream::{Pages, Queries};
use super::tuple::Taker;
use crate::failpoint;
use crate::relation::{Numbered, Slice};
use crate::source::SourceError;
use crate::source::decode::{StreamColumn, stored_form};

/// A chunk whose table is locked and compared with the snapshot.
pub(in super::super) struct Chunk<'a> {
    pub(in super::super) selected: &'a Selected<'a>,
    pub(in super::super) seen: &'a SeenRelation,
    pub(in super::super) columns: &'a Readings,
    pub(in super::super) slice: Slice<'a>,
    /// The condition of the slice, in SQL.
    pub(in super::super) condition: Option<&'a str>,
    /// The schema just before the chunk's transaction began.
    pub(in super::super) schema: Option<SchemaRow>,
    /// Whether the snapshot was taken on a primary.
    pub(in super::super) is_of_primary: bool,
}

/// The schema's row now. Asked before the chunk's transaction, so that a chunk whose schema has changed since the
/// snapshot is read by COPY at once.
pub(in super::super) async fn schema_before(
    connections: &Connections,
    schema: &str,
    what: &str,
) -> Result<Option<SchemaRow>, SourceError> {
    let session = Session::begin(connections, Opening::default()).await?;
    let sql = format!(
        "SELECT n.oid, n.nspname, n.xmin FROM pg_catalog.pg_namespace n WHERE n.nspname = {}",
        literal(schema)
    );
    let rows = session.rows(&sql, Stage::Question, what).await?;
    session.end(what).await?;
    Ok(rows.first().and_then(|row| facts::schema_row(row, 0)))
}

/// Whether tables of the source can be read by pages, in words.
pub(in super::super) async fn notes(session: &Session) -> Result<Vec<String>, SourceError> {
    let what = "ask whether pages can be read";
    let rows = session.rows(&facts::question("'{}'::pg_catalog._oid"), Stage::Question, what).await?;
    let server = facts::read(&rows, session.version());
    Ok(server.map(|(server, _)| server.note()).into_iter().collect())
}

/// How the pages of a chunk are read, and the schema's row to compare at the end. The inner error says why the
/// chunk is read by COPY.
pub(in super::super) async fn prepare(
    session: &Session,
    chunk: &Chunk<'_>,
    what: &str,
) -> Result<Result<(Pages, SchemaRow), String>, SourceError> {
    if !chunk.is_of_primary {
        return Ok(Err("the snapshot was not taken on a primary".into()));
    }
    let oid = chunk.seen.oid;
    let catalogue = format!(
        "{}; {}",
        facts::question(&format!("'{{{oid}}}'::pg_catalog._oid")),
        facts::columns_question(oid)
    );
    let size = format!("SELECT pg_catalog.pg_relation_size({oid}::pg_catalog.regclass, 'main')");
    let names: Vec<&str> = chunk.columns.iter().map(|(name, _)| name).collect();
    let list: Vec<String> = names.iter().copied().map(ident).collect();
    // As the COPY of the chunk reads it.
    let from = if chunk.seen.is_alone { from_only_where } else { from_where };
    let scan = format!(
        "EXPLAIN (VERBOSE, FORMAT json) SELECT {} {}",
        list.join(", "),
        from(chunk.selected, chunk.condition)
    );
    let (catalogue, size, scan) = join3(
        session.rows(&catalogue, Stage::Chunk, what),
        session.value(&size, Stage::Chunk, what),
        session.value(&scan, Stage::Chunk, what),
    )
    .await;
    let (catalogue, size, scan) = (catalogue?, size?, scan?);
    // One row about the server, one about the table, then one for each column.
    let Some((about, columns)) = catalogue.split_at_checked(2) else {
        return Ok(Err("the snapshot does not show the table".into()));
    };
    let Some((server, mut tables)) = facts::read(about, session.version()) else {
        return Ok(Err("the catalogue cannot be read".into()));
    };
    let Some(table) = tables.remove(&oid) else {
        return Ok(Err("the snapshot does not show the table".into()));
    };
    let columns: Option<Vec<CatalogueColumn>> = columns.iter().map(facts::column).collect();
    let found = Found { server, table, columns, size: size.and_then(|size| size.parse().ok()), scan };
    Ok(found.pages(chunk, &names))
}

/// What the server said.
struct Found {
    server: Server,
    table: Table,
    columns: Option<Vec<CatalogueColumn>>,
    /// Bytes of the table now.
    size: Option<u64>,
    /// The plan of the chunk's query.
    scan: Option<String>,
}

impl Found {
    fn pages(self, chunk: &Chunk<'_>, names: &[&str]) -> Result<(Pages, SchemaRow), String> {
        let Selected { schema, name, .. } = *chunk.selected;
        if let Some(why) = self.server.doubt().or_else(|| self.table.doubt(&self.server)) {
            return Err(why);
        }
        if chunk.schema.as_ref() != Some(&self.table.schema) {
            return Err("its schema has changed since the snapshot".into());
        }
        if !self.scan.is_some_and(|plan| is_bare(&plan, (schema, name), names)) {
            return Err("the server does not read it by one bare scan".into());
        }
        let unreadable = "the catalogue cannot be read";
        let columns = self.columns.ok_or(unreadable)?;
        let pages = self.size.ok_or(unreadable)? / self.server.block.max(1);
        let range = range(chunk.slice, pages).ok_or("the chunk is no range of pages")?;
        let queries = Queries {
            oid: self.table.oid,
            list: select_list(chunk.columns),
            table: table(schema, name),
            server: self.server,
        };
        let taken = stream_columns(chunk.columns, &columns)?;
        let forms: Vec<_> = taken.iter().map(stored_form).collect();
        let taker = Taker::new(&layout(&columns, names)?, &forms);
        let pages = Pages { taker, route: Route::new(range), queries, columns: taken };
        Ok((pages, self.table.schema))
    }
}

/// The pages of a slice of a table that has this many. VACUUM may have cut the table's end between two chunks.
fn range(slice: Slice<'_>, pages: u64) -> Option<Range<u64>> {
    let (from, to) = match slice {
        Slice::All => (None, None),
        Slice::Numbers(numbers) => numbers.of(Numbered::Pages)?,
        Slice::Range { .. } | Slice::Nulls { .. } | Slice::Piece(_) => return None,
    };
    let cut = |page: u64| if failpoint::is_left_out("cut", "pages") { page } else { page.min(pages) };
    let (from, to) = (cut(from.unwrap_or(0)), cut(to.unwrap_or(pages)));
    Some(from..to.max(from))
}

/// The exported columns, in the forms that are taken from pages.
fn stream_columns(columns: &Readings, catalogue: &[CatalogueColumn]) -> Result<Vec<StreamColumn>, String> {
    let column = |(column, reading): (&crate::relation::Column, &super::super::reading::Reading)| {
        let ty = catalogue.iter().find(|c| c.name == column.name).map_or(0, |c| c.ty);
        let form = form(reading, ty).ok_or_else(|| not_taken(&column.name))?;
        Ok(StreamColumn { column: column.clone(), form, infinity: reading.infinity })
    };
    columns.all().map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::Strategy;

    #[test]
    fn ranges_are_cut_to_the_table() {
        let ctid = Strategy::Ctid { bounds: vec![10, 20] };
        let slice = |chunk| ctid.slice(chunk).expect("a chunk");
        assert_eq!(range(slice(0), 100), Some(0..10));
        assert_eq!(range(slice(2), 100), Some(20..100));
        assert_eq!(range(slice(1), 15), Some(10..15), "an inner range");
        assert_eq!(range(slice(1), 5), Some(5..5));
        assert_eq!(range(Slice::All, 7), Some(0..7));
        assert_eq!(range(Slice::Nulls { column: "a" }, 7), None);
    }
}
