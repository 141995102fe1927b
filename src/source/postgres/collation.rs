//! Checks whether the order of texts is still the order that indexes have.
//!
//! ICU and the C library change the order of texts between versions. A search in an index that was built
//! under another version can miss rows. The server stores the version under which a collation was created,
//! warns about a difference, and goes on. Invariant I6: if the stored version differs from the current one,
//! or none is stored, no index on such texts and no partition bounds may decide what a chunk reads. Keys are
//! then compared by their bytes, so that such an index cannot be used. Filters are written so that the
//! planner does not analyse them ([`opaque`]).

use std::collections::{BTreeMap, BTreeSet};

use super::quote::{shown, table};
use super::seen::{Conditions, FIXED_OIDS, SeenColumn, SeenRelation};
use super::session::Session;
use super::slice::opaque;
use super::sqlstate::Stage;
use crate::source::SourceError;

/// Oid of the collation `default`, the same on every server (`pg_collation.dat`).
pub(super) const DEFAULT: u32 = 100;
/// `C` and `POSIX`. They have no versions, because their order never changes.
const BYTEWISE: [u32; 2] = [950, 951];
/// First version in which a database stores the version of its own collation.
const HAS_DATABASE_VERSION: u32 = 150_000;
/// Stands for every collation that an object of the database uses. Ranges and composites ask for it, because
/// their columns do not show by which collation their texts are compared.
const USED: u32 = 0;
/// Stands for the collation of the database, if an expression of an index, of an index condition or of a
/// partition key compares by it. The catalogue does not show whether the result of a function or operator is
/// a text.
const OF_EXPRESSIONS: u32 = 1;
/// Built-in types that are compared by the collation of the database, although their columns have no
/// collation: `jsonb`, `jsonb[]`.
const OF_DEFAULT: [u32; 2] = [3802, 3807];

/// Finds which of these collations are in doubt, and why.
pub(super) async fn doubts(
    session: &Session,
    collations: &BTreeSet<u32>,
    stage: Stage,
    what: &str,
) -> Result<BTreeMap<u32, String>, SourceError> {
    let asked: BTreeSet<u32> = collations.iter().copied().filter(|c| !BYTEWISE.contains(c)).collect();
    let mut doubts = BTreeMap::new();
    if !asked.is_empty() {
        session
            .each(&question(session.version(), &asked), stage, what, |row| {
                let oid = row.get(0).and_then(|t| t.parse().ok()).unwrap_or(DEFAULT);
                let name = row.get(1).zip(row.get(2));
                doubts.insert(oid, why(name, row.get(3), row.get(4)));
            })
            .await?;
    }
    Ok(doubts)
}

/// Why a collation is in doubt. `name` is `None` for the collation of the database.
fn why(name: Option<(&str, &str)>, noted: Option<&str>, now: Option<&str>) -> String {
    let (collation, refresh) = match name {
        Some((schema, name)) => {
            let refresh = format!("ALTER COLLATION {} REFRESH VERSION", table(schema, name));
            (format!("collation {}", shown(schema, name)), refresh)
        }
        None => ("the database's collation".into(), "ALTER DATABASE … REFRESH COLLATION VERSION".into()),
    };
    match (noted, now) {
        (Some(noted), Some(now)) => format!(
            "{collation} was of version {noted} when its indexes were made and is of version {now} now (REINDEX them, \
             then {refresh})"
        ),
        _ => format!("the server has no version of {collation} on record, by which to trust indexes"),
    }
}

/// Asks which of these collations are in doubt, with their stored and current versions.
fn question(version: u32, collations: &BTreeSet<u32>) -> String {
    let by_used = collations.contains(&USED);
    let list: Vec<String> =
        collations.iter().chain(by_used.then_some(&DEFAULT)).map(u32::to_string).collect();
    // pg_depend has no entries for the collation of the database.
    let used = if by_used {
        " OR l.oid IN (SELECT e.refobjid FROM pg_catalog.pg_depend e \
           WHERE e.refclassid = 'pg_catalog.pg_collation'::pg_catalog.regclass)"
    } else {
        ""
    };
    let of_expressions = if collations.contains(&OF_EXPRESSIONS) {
        format!(
            " OR EXISTS (SELECT FROM pg_catalog.pg_index i \
                WHERE i.indexprs IS NOT NULL AND {DEFAULT} = ANY (i.indcollation) \
                   OR pg_catalog.strpos(i.indpred::pg_catalog.text, ':inputcollid {DEFAULT} ') > 0) \
             OR EXISTS (SELECT FROM pg_catalog.pg_partitioned_table p \
                WHERE p.partexprs IS NOT NULL AND {DEFAULT} = ANY (p.partcollation))"
        )
    } else {
        String::new()
    };
    let (noted, now, trusted) = if version >= HAS_DATABASE_VERSION {
        (
            "d.datcollversion",
            "pg_catalog.pg_database_collation_actual_version(d.oid)",
            "d.datlocprovider = 'b' OR d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX')",
        )
    } else {
        ("NULL", "NULL", "d.datcollate IN ('C', 'POSIX')")
    };
    format!(
        "SELECT v.oid, v.nspname, v.collname, v.noted, v.now FROM ( \
           SELECT {DEFAULT} AS oid, NULL AS nspname, NULL AS collname, {noted} AS noted, {now} AS now, \
                  ({trusted}) AS trusted \
           FROM pg_catalog.pg_database d \
           WHERE d.datname = pg_catalog.current_database() AND ({DEFAULT} IN ({list}){of_expressions}) \
           UNION ALL \
           SELECT l.oid, n.nspname, l.collname, l.collversion, pg_catalog.pg_collation_actual_version(l.oid), \
                  l.collprovider = 'b' OR l.collprovider = 'c' AND l.collcollate IN ('C', 'POSIX') \
           FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace \
           WHERE l.oid <> {DEFAULT} AND (l.oid IN ({list}){used})) v \
         WHERE v.trusted IS NOT TRUE AND (v.noted = v.now) IS NOT TRUE",
        list = list.join(", "),
    )
}

/// Settings that keep the planner from using indexes and partition bounds, for filters that read other
/// tables.
const WITHOUT_INDEXES: [(&str, &str); 5] = [
    ("enable_indexscan", "off"),
    ("enable_indexonlyscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_partition_pruning", "off"),
    ("enable_seqscan", "on"),
];

/// How to read a relation safely when collations are in doubt.
#[derive(Debug, Default)]
pub(super) struct Care {
    /// The relation's filter, as the query must contain it.
    pub(super) filter: Option<String>,
    /// Settings to apply after all others.
    pub(super) settings: &'static [(&'static str, &'static str)],
    /// Why the order of the key is in doubt, if it is.
    pub(super) key: Option<String>,
}

/// Checks the collations of a filter and a key, and returns how to read the relation safely.
pub(super) async fn care(
    session: &Session,
    seen: &SeenRelation,
    conditions: Conditions<'_>,
    stage: Stage,
    what: &str,
) -> Result<Care, SourceError> {
    let of_filter = of_filter(seen, conditions);
    let of_key = conditions.key.and_then(|key| seen.columns.get(key)).and_then(of_column);
    let asked = of_filter.iter().copied().chain(of_key).collect();
    let doubts = doubts(session, &asked, stage, what).await?;
    let of = |asked: u32| {
        let asked = if asked == OF_EXPRESSIONS { DEFAULT } else { asked };
        let mut found = doubts.iter().filter(move |(doubted, _)| asked == USED || **doubted == asked);
        found.next().map(|(_, why)| why.clone())
    };
    let doubted = of_filter.iter().any(|collation| of(*collation).is_some());
    // In an opaque filter, a subquery would run once for each row.
    let (opaque_filter, settings) = match conditions.may_read_tables() {
        _ if !doubted => (false, &[][..]),
        true => (false, &WITHOUT_INDEXES[..]),
        false => (true, &[][..]),
    };
    let filter = conditions.filter.map(|f| if opaque_filter { opaque(f) } else { f.to_owned() });
    Ok(Care { filter, settings, key: of_key.and_then(of) })
}

/// The collations by which a filter may compare. An extra collation does no harm except that the query is
/// slower. A cast to text uses the collation of the database, and so does a text that operators and functions
/// make of values without a collation.
fn of_filter(seen: &SeenRelation, conditions: Conditions<'_>) -> BTreeSet<u32> {
    let Some(filter) = conditions.filter else { return BTreeSet::new() };
    let filter_alone = Conditions { key: None, filter: Some(filter) };
    let named = seen.columns.iter().filter(|(name, _)| filter_alone.name(name));
    let mut collations: BTreeSet<u32> = named.filter_map(|(_, column)| of_column(column)).collect();
    let words = filter.to_lowercase();
    let has = |some: &[&str]| some.iter().any(|word| words.contains(word));
    // Collations that the filter names, or that other tables have.
    if has(&["collate"]) || conditions.may_read_tables() {
        collations.insert(USED);
    }
    if has(&["text", "char", "json"]) {
        collations.insert(DEFAULT);
    }
    if has(&["||", "->", "#>"]) || calls_function(&words) {
        collations.insert(OF_EXPRESSIONS);
    }
    collations
}

/// Words that may stand before a parenthesis but are not functions.
const NO_FUNCTIONS: [&str; 20] = [
    "all",
    "and",
    "any",
    "as",
    "between",
    "case",
    "cast",
    "dec",
    "decimal",
    "else",
    "float",
    "in",
    "like",
    "not",
    "numeric",
    "or",
    "then",
    "time",
    "timestamp",
    "when",
];

/// Whether a filter, in small letters, may call a function.
fn calls_function(filter: &str) -> bool {
    filter.match_indices('(').any(|(at, _)| {
        let before = filter[..at].trim_end();
        let word = before.rsplit(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$' | '"'))).next();
        word.is_some_and(|word| !word.is_empty() && !NO_FUNCTIONS.contains(&word))
    })
}

/// The collation by which values of a column are compared, if any.
fn of_column(column: &SeenColumn) -> Option<u32> {
    let made_of = if column.kind == 'd' { column.base } else { column.oid };
    match column.collation {
        0 if OF_DEFAULT.contains(&made_of) => Some(DEFAULT),
        0 if made_of < FIXED_OIDS || column.kind == 'e' => None,
        0 => Some(USED),
        collation => Some(collation).filter(|c| !BYTEWISE.contains(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_in_doubt() {
        assert_eq!(
            why(Some(("x", "de-x-icu")), Some("1"), Some("2")),
            "collation x.de-x-icu was of version 1 when its indexes were made and is of version 2 now (REINDEX them, then \
             ALTER COLLATION \"x\".\"de-x-icu\" REFRESH VERSION)"
        );
        for (noted, now) in [(None, Some("2")), (Some("1"), None), (None, None)] {
            assert!(why(None, noted, now).contains("no version of the database's collation"));
        }
    }

    #[test]
    fn older_servers_are_not_asked_for_versions_that_they_lack() {
        let asked = BTreeSet::from([DEFAULT, 12_345]);
        assert!(!question(140_000, &asked).contains("datcollversion"));
        assert!(question(150_000, &asked).contains("datcollversion"));
    }

    #[test]
    fn what_a_filter_may_compare_as_text_is_found() {
        let range = SeenColumn { kind: 'r', ..SeenColumn::of(70_000) };
        let seen = SeenRelation::plain([("id", SeenColumn::of(23)), ("r", range)]);
        let of = |filter: &str| of_filter(&seen, Conditions { key: None, filter: Some(filter) });
        for filter in [
            "\"id\" > 5",
            "\"id\" IN ( 1 , 2 ) AND ( \"id\" > 1 )",
            "NOT ( \"id\" = CAST ( '1' AS NUMERIC(9,1) ) )",
        ] {
            assert_eq!(of(filter), BTreeSet::new(), "{filter}");
        }
        for filter in [
            "\"j\" ->> 'a' = 'b'",
            "encode ( \"b\" , 'hex' ) = 'a'",
            "\"id\" || 'a' = '1a'",
            "\"F\" ( 1 ) = 'a'",
        ] {
            assert_eq!(of(filter), BTreeSet::from([OF_EXPRESSIONS]), "{filter}");
        }
        assert_eq!(of("\"j\" :: JSONB = '1'"), BTreeSet::from([DEFAULT]));
        for filter in ["\"r\" = '[a,b)'", "\"id\" IN ( SELECT 1 )", "\"id\" IN ( TABLE t )"] {
            assert!(of(filter).contains(&USED), "{filter}");
        }
        assert!(of("\"id\" = 1 COLLATE \"x\"").contains(&USED));
        assert!(question(150_000, &BTreeSet::from([USED])).contains("100 IN (0, 100)"));
    }

    #[test]
    fn types_that_are_compared_as_texts_have_a_collation() {
        let column = |oid, kind, base, collation| SeenColumn { kind, base, collation, ..SeenColumn::of(oid) };
        for (column, expected) in [
            (column(25, 'b', 0, 100), Some(100)),
            (column(25, 'b', 0, 950), None),
            (column(1009, 'b', 0, 12_345), Some(12_345)),
            (column(20, 'b', 0, 0), None),
            (column(3802, 'b', 0, 0), Some(100)),
            (column(70_000, 'e', 0, 0), None),
            (column(70_000, 'd', 23, 0), None),
            (column(70_000, 'd', 3802, 0), Some(100)),
            (column(70_000, 'd', 25, 100), Some(100)),
            (column(70_000, 'd', 70_001, 0), Some(USED)),
            (column(70_000, 'c', 0, 0), Some(USED)),
            (column(70_000, 'r', 0, 0), Some(USED)),
            (column(70_000, 'b', 0, 0), Some(USED)),
        ] {
            assert_eq!(of_column(&column), expected, "{} {}", column.oid, column.kind);
        }
    }
}
