//! The survey: facts of all relations that a request names or matches. The number of queries does not depend on
//! the number of relations, except that rights are asked for a few hundred tables at once. Questions about a few
//! hundred relations name them, so that an answer has nothing of the rest of the catalogue.
//!
//! A user sees only what the user may use in some way (`v_catalog` leaves the rest out), so what is missing here
//! is reported as unknown.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::asking::{ask, text};
use super::condition::HashedColumn;
use super::described::{columns_of, describe};
use super::divide::Layout;
use super::sessions::Leased;
use super::statements::{self, TABLES_AT_ONCE};
use super::stored::{Superprojection, superprojections};
use super::types::VerticaType;
use crate::relation::{Facts, Relation, RelationKind, SurveyColumn, SurveyRequest, Unreadable};
use crate::source::{ErrorKind, SourceError};

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
    let stored = ids(&named, |is| is == Is::Table);
    let mut projections = superprojections(session, &stored, nodes).await?;
    let mut keys = keys(session).await?;
    let (tables, views) = (ids(&named, |is| is != Is::View), ids(&named, |is| is == Is::View));
    let described = describe(session, &tables, &views).await?;
    let mut columns = columns_of(session, &described, &projections).await?;
    let unreadable = unreadable(session, &tables).await?;
    Ok(named
        .into_iter()
        .map(|named| {
            let projection = projections.remove(&named.id).unwrap_or_default();
            let facts = Found {
                key: keys.remove(&(named.schema.clone(), named.name.clone())).unwrap_or_default(),
                columns: columns.remove(&named.id).unwrap_or_default(),
                may_read: !unreadable.contains(&named.id),
                broken: described.broken.get(&named.id).cloned(),
                nodes,
                projection,
            };
            relation(named, facts)
        })
        .collect())
}

/// The numbers of the relations that are of some kind.
fn ids(named: &[Named], is_wanted: impl Fn(Is) -> bool) -> Vec<i64> {
    named.iter().filter(|n| is_wanted(n.is)).map(|n| n.id).collect()
}

/// What was found about a relation.
struct Found {
    key: Vec<String>,
    columns: Vec<SurveyColumn>,
    may_read: bool,
    /// Why the server cannot describe it.
    broken: Option<String>,
    nodes: u64,
    projection: Superprojection,
}

fn relation(named: Named, found: Found) -> Relation {
    let Found { key, columns, may_read, broken, nodes, projection } = found;
    let unreadable = match named.is {
        _ if broken.is_some() => broken.map(|why| Unreadable {
            why: format!("the server cannot describe it: {why}"),
            remedy: "restore the tables that it reads, or replace it".into(),
        }),
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

/// The relations that the request means.
async fn named(session: &mut Leased, request: &SurveyRequest) -> Result<Vec<Named>, SourceError> {
    let is_meant = |named: &Named| {
        (request.schemas.is_empty() || request.schemas.contains(&named.schema))
            && request.tables.iter().any(|pattern| match (named.is, pattern.literal()) {
                // Only a name means them, and a broken view must not be in the way of a pattern.
                (Is::View | Is::External, None) => false,
                _ => pattern.matches(&named.schema, &named.name),
            })
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

/// Columns of primary keys, in order, by schema and table.
async fn keys(session: &mut Leased) -> Result<HashMap<(String, String), Vec<String>>, SourceError> {
    let mut keys: HashMap<(String, String), BTreeMap<i64, String>> = HashMap::new();
    for row in ask(session, &statements::keys()).await?.rows() {
        let position = row.int(3)?;
        let key = keys.entry((text(&row, 0)?, text(&row, 1)?)).or_default();
        key.insert(position.unwrap_or(i64::MAX), text(&row, 2)?);
    }
    Ok(keys.into_iter().map(|(table, columns)| (table, columns.into_values().collect())).collect())
}

/// How many tables and views the user sees, and whether some of them may not be read: for people.
pub(super) async fn visible(session: &mut Leased) -> Result<String, SourceError> {
    let mut tables = Vec::new();
    for row in ask(session, &statements::tables()).await?.rows() {
        tables.extend(row.int(0)?);
    }
    let views = ask(session, &statements::views()).await?.rows().len();
    let asked = &tables[..tables.len().min(TABLES_AT_ONCE)];
    let refused = unreadable(session, asked).await?.len() as u64;
    let seen = format!(
        "sees {} and {}",
        crate::text::count(tables.len() as u64, "table"),
        crate::text::count(views as u64, "view")
    );
    Ok(match (refused, asked.len() < tables.len()) {
        (0, _) => seen,
        (refused, false) => format!("{seen}, and may not read {refused} of them (no SELECT right)"),
        (refused, true) => {
            format!("{seen}, and may not read {refused} of the first {} (no SELECT right)", asked.len())
        }
    })
}

/// The tables that the user may not read. What the server does not answer counts as readable: the first
/// statement on it will say more.
async fn unreadable(session: &mut Leased, asked: &[i64]) -> Result<Vec<i64>, SourceError> {
    let mut unreadable = Vec::new();
    for some in asked.chunks(TABLES_AT_ONCE) {
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
