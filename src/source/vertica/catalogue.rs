//! The survey: facts of all relations that a request names or matches. The number of queries does not depend on
//! the number of relations, except that rights are asked for a few hundred tables at once.
//!
//! A user sees only what the user may use in some way (`v_catalog` leaves the rest out), so what is missing here
//! is reported as unknown.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::columns;
use super::condition::HashedColumn;
use super::divide::Layout;
use super::sessions::Leased;
use super::sqlstate::Stage;
use super::statements::{self, RIGHTS_AT_ONCE, Statement};
use super::types::VerticaType;
use super::wire::{Answer, Row};
use crate::relation::{Facts, Relation, RelationKind, SurveyColumn, SurveyRequest, Unreadable};
use crate::source::{ErrorKind, SourceError};

const WHAT: &str = "look at the catalogue";

const HIDDEN_VALUES: &str = "an access policy may hide rows from the user or change their values";

/// Names and kind of a relation.
struct Named {
    id: i64,
    schema: String,
    name: String,
    is: Is,
    partitioned: bool,
    /// Whether an access policy on it is enabled.
    policy: bool,
}

/// What a relation is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Table,
    Temporary,
    External,
    View,
}

/// A projection that has all columns of its table.
#[derive(Default)]
struct Superprojection {
    segmentation: Option<String>,
    leading: Option<String>,
    rows: u64,
    bytes: u64,
}

/// Surveys all relations of a request.
pub(super) async fn survey(
    session: &mut Leased,
    request: &SurveyRequest,
) -> Result<Vec<Relation>, SourceError> {
    let named = named(session, request).await?;
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let nodes = nodes(session).await?.up;
    let mut projections = superprojections(session, nodes).await?;
    let mut keys = keys(session).await?;
    let mut columns = columns_of(session, &named, &projections).await?;
    let unreadable = unreadable(session, &named).await?;
    Ok(named
        .into_iter()
        .map(|named| {
            let projection = projections.remove(&named.id).unwrap_or_default();
            let facts = Found {
                key: keys.remove(&(named.schema.clone(), named.name.clone())).unwrap_or_default(),
                columns: columns.remove(&named.id).unwrap_or_default(),
                may_read: !unreadable.contains(&named.id),
                nodes,
                projection,
            };
            relation(named, facts)
        })
        .collect())
}

/// What was found about a relation.
struct Found {
    key: Vec<String>,
    columns: Vec<SurveyColumn>,
    may_read: bool,
    nodes: u64,
    projection: Superprojection,
}

fn relation(named: Named, found: Found) -> Relation {
    let Found { key, columns, may_read, nodes, projection } = found;
    let unreadable = match named.is {
        Is::Temporary => Some(Unreadable {
            why: "it is a temporary table, and each session has rows of its own".into(),
            remedy: "copy its rows into a table".into(),
        }),
        _ if !may_read => Some(Unreadable {
            why: "no SELECT right".into(),
            remedy: "GRANT SELECT on the table and USAGE on its schema to the user".into(),
        }),
        _ => None,
    };
    let hashable = columns.iter().filter(|c| c.facts.get().is_some_and(VerticaType::is_hashable));
    let layout = Layout {
        whole: match named.is {
            Is::View => Some("it is a view"),
            Is::External => Some("it is an external table, which does not follow the epoch"),
            Is::Table | Is::Temporary => None,
        },
        segmentation: projection.segmentation,
        leading: projection.leading,
        hashable: hashable
            .map(|c| HashedColumn { name: c.column.name.clone(), source_type: c.column.source_type.clone() })
            .collect(),
        nodes,
        partitioned: named.partitioned,
    };
    let is_stored = matches!(named.is, Is::Table);
    Relation {
        schema: named.schema,
        name: named.name,
        kind: match named.is {
            Is::Table | Is::Temporary => RelationKind::Table,
            Is::External => RelationKind::Foreign,
            Is::View => RelationKind::View,
        },
        unreadable,
        elsewhere: None,
        partial: named.policy.then(|| format!("{HIDDEN_VALUES}: what it sees is exported")),
        contains: Vec::new(),
        alone: None,
        ways: None,
        has_own_rows: named.is != Is::View,
        foreign: named.is == Is::External,
        estimated_rows: is_stored.then_some(projection.rows),
        bytes: projection.bytes,
        heap_bytes: projection.bytes,
        outdated: false,
        extent: None,
        primary_key: key,
        columns,
        own: Some(Facts::of(layout)),
    }
}

async fn ask(session: &mut Leased, statement: &Statement) -> Result<Answer, SourceError> {
    session.query(statement, Stage::Question, WHAT).await
}

/// A text that is never NULL in the catalogue.
fn text(row: &Row<'_>, column: usize) -> Result<String, SourceError> {
    Ok(row.text(column)?.unwrap_or_default().to_owned())
}

/// A count that may be missing, or a sum that is a numeric.
fn size(row: &Row<'_>, column: usize) -> Result<u64, SourceError> {
    Ok(row.int(column)?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
}

/// The relations that the request means.
async fn named(session: &mut Leased, request: &SurveyRequest) -> Result<Vec<Named>, SourceError> {
    let is_meant = |named: &Named| {
        (request.schemas.is_empty() || request.schemas.contains(&named.schema))
            && request.tables.iter().any(|pattern| pattern.matches(&named.schema, &named.name))
    };
    let mut all = Vec::new();
    for row in ask(session, &statements::tables()).await?.rows() {
        let is = if row.bool(3)? == Some(true) {
            Is::Temporary
        } else if row.text(4)?.is_some_and(|definition| !definition.is_empty()) {
            Is::External
        } else {
            Is::Table
        };
        let Some(id) = row.int(0)? else { continue };
        let partitioned = row.text(5)?.is_some_and(|expression| !expression.is_empty());
        all.push(Named { id, schema: text(&row, 1)?, name: text(&row, 2)?, is, partitioned, policy: false });
    }
    for row in ask(session, &statements::views()).await?.rows() {
        let Some(id) = row.int(0)? else { continue };
        let (schema, name) = (text(&row, 1)?, text(&row, 2)?);
        all.push(Named { id, schema, name, is: Is::View, partitioned: false, policy: false });
    }
    all.retain(is_meant);
    all.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    if !all.is_empty() {
        let policies = policies(session).await?.unwrap_or_default();
        for named in &mut all {
            // The name may be written without its schema.
            named.policy = policies.contains(&named.name)
                || policies.contains(&format!("{}.{}", named.schema, named.name));
        }
    }
    Ok(all)
}

/// The tables with an enabled access policy, as `schema.table`; none if the user may not ask. Without being a
/// superuser one sees at most the policies of one's own tables.
pub(super) async fn policies(session: &mut Leased) -> Result<Option<HashSet<String>>, SourceError> {
    let answer = match ask(session, &statements::policies()).await {
        Ok(answer) => answer,
        Err(error) if error.kind == ErrorKind::Permanent => {
            tracing::debug!(%error, "the server does not tell the access policies of tables");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut tables = HashSet::new();
    for row in answer.rows() {
        // The documentation calls it a boolean, and shows a text.
        let enabled = match row.bool(1) {
            Ok(enabled) => enabled != Some(false),
            Err(_) => row.text(1)?.is_none_or(|text| text.eq_ignore_ascii_case("enabled")),
        };
        if enabled {
            tables.insert(text(&row, 0)?);
        }
    }
    Ok(Some(tables))
}

/// How many nodes are up, and which are not.
pub(super) struct Nodes {
    /// How many work.
    pub(super) up: u64,
    /// Those that do not, with their state.
    pub(super) down: Vec<String>,
}

/// The nodes of the database.
pub(super) async fn nodes(session: &mut Leased) -> Result<Nodes, SourceError> {
    let mut nodes = Nodes { up: 0, down: Vec::new() };
    for row in ask(session, &statements::nodes()).await?.rows() {
        match row.text(1)? {
            Some("UP") => nodes.up += 1,
            state => nodes.down.push(format!("{} is {}", text(&row, 0)?, state.unwrap_or("unknown"))),
        }
    }
    nodes.up = nodes.up.max(1);
    Ok(nodes)
}

/// The largest up-to-date superprojection of each table, by the number of the table.
async fn superprojections(
    session: &mut Leased,
    nodes: u64,
) -> Result<HashMap<i64, Superprojection>, SourceError> {
    let mut sizes: HashMap<i64, [u64; 4]> = HashMap::new();
    for row in ask(session, &statements::sizes()).await?.rows() {
        let Some(id) = row.int(0)? else { continue };
        sizes.insert(id, [size(&row, 1)?, size(&row, 2)?, size(&row, 3)?, size(&row, 4)?]);
    }
    let mut leading: HashMap<i64, String> = HashMap::new();
    for row in ask(session, &statements::leading_columns()).await?.rows() {
        let Some(id) = row.int(0)? else { continue };
        leading.insert(id, text(&row, 1)?);
    }
    let mut found: HashMap<i64, Superprojection> = HashMap::new();
    for row in ask(session, &statements::projections()).await?.rows() {
        let (Some(id), Some(table)) = (row.int(0)?, row.int(1)?) else { continue };
        if row.bool(2)? != Some(true) || row.bool(4)? != Some(true) {
            continue;
        }
        let is_segmented = row.bool(3)? == Some(true);
        let [rows, rows_of_node, bytes, bytes_of_node] = sizes.get(&id).copied().unwrap_or_default();
        let (rows, bytes) = if is_segmented { (rows, bytes) } else { (rows_of_node, bytes_of_node) };
        // A segmentation on one node only is none.
        let segmentation = if is_segmented && nodes > 0 { Some(text(&row, 5)?) } else { None };
        let this = Superprojection { segmentation, leading: leading.remove(&id), rows, bytes };
        match found.get(&table) {
            Some(other) if other.rows >= this.rows => {}
            _ => {
                found.insert(table, this);
            }
        }
    }
    Ok(found)
}

/// Columns of primary keys, in order, by schema and table.
async fn keys(session: &mut Leased) -> Result<HashMap<(String, String), Vec<String>>, SourceError> {
    let mut keys: HashMap<(String, String), BTreeMap<i64, String>> = HashMap::new();
    for row in ask(session, &statements::keys()).await?.rows() {
        // The documentation calls the position a text.
        let position = match row.int(3) {
            Ok(position) => position,
            Err(_) => row.text(3)?.and_then(|text| text.trim().parse().ok()),
        };
        let key = keys.entry((text(&row, 0)?, text(&row, 1)?)).or_default();
        key.insert(position.unwrap_or(i64::MAX), text(&row, 2)?);
    }
    Ok(keys.into_iter().map(|(table, columns)| (table, columns.into_values().collect())).collect())
}

/// Columns of these relations, in order, by the number of the relation.
async fn columns_of(
    session: &mut Leased,
    named: &[Named],
    projections: &HashMap<i64, Superprojection>,
) -> Result<HashMap<i64, Vec<SurveyColumn>>, SourceError> {
    let wanted: HashMap<i64, bool> = named.iter().map(|n| (n.id, n.is == Is::View)).collect();
    let mut found: HashMap<i64, BTreeMap<i64, SurveyColumn>> = HashMap::new();
    for (statement, of_views) in [(statements::columns(), false), (statements::view_columns(), true)] {
        if !wanted.values().any(|is_view| *is_view == of_views) {
            continue;
        }
        for row in ask(session, &statement).await?.rows() {
            let Some(table) = row.int(0)?.filter(|id| wanted.get(id) == Some(&of_views)) else { continue };
            let name = text(&row, 1)?;
            let number = |column| row.int(column).map(|n| n.unwrap_or(0));
            // Zero digits: not known.
            let digits = |n: Option<i64>| n.and_then(|n| u16::try_from(n).ok());
            let (precision, scale) = digits(row.int(4)?).zip(digits(row.int(5)?)).unwrap_or_default();
            let ty = VerticaType {
                name: text(&row, 2)?,
                oid: u32::try_from(number(3)?).unwrap_or(0),
                precision,
                scale,
                table,
                is_view: of_views,
            };
            let nullable = of_views || row.bool(7)? != Some(false);
            let leads = projections.get(&table).is_some_and(|p| p.leading.as_deref() == Some(&name));
            let column = columns::surveyed(&name, ty, nullable, leads);
            found.entry(table).or_default().insert(number(6)?, column);
        }
    }
    Ok(found.into_iter().map(|(table, columns)| (table, columns.into_values().collect())).collect())
}

/// The tables that the user may not read. What the server does not answer counts as readable: the first
/// statement on it will say more.
async fn unreadable(session: &mut Leased, named: &[Named]) -> Result<Vec<i64>, SourceError> {
    let asked: Vec<i64> = named.iter().filter(|n| n.is != Is::View).map(|n| n.id).collect();
    let mut unreadable = Vec::new();
    for some in asked.chunks(RIGHTS_AT_ONCE) {
        let answer = match ask(session, &statements::rights(some)).await {
            Ok(answer) => answer,
            Err(error) if error.kind == ErrorKind::Permanent => {
                tracing::debug!(%error, "the server does not tell the rights of tables");
                return Ok(unreadable);
            }
            Err(error) => return Err(error),
        };
        let Some(row) = answer.rows().next() else { continue };
        for (column, table) in some.iter().enumerate() {
            if row.bool(column)? == Some(false) {
                unreadable.push(*table);
            }
        }
    }
    Ok(unreadable)
}
