//! How keys of ranges are compared: the types in plans, and the SQL for each.

use crate::relation::Frozen;
use crate::source::SourceError;

/// Types by which tables can be split: first the name in plans (the casts of `types::range_key`), then the
/// name in SQL, which does not depend on the search path. Their text casts back exactly, and their order is
/// total. `character varying` is compared as text; `character` would cut its bounds to one character.
const CASTS: [(&str, &str); 14] = [
    ("smallint", "pg_catalog.int2"),
    ("integer", "pg_catalog.int4"),
    ("bigint", "pg_catalog.int8"),
    ("numeric", "pg_catalog.numeric"),
    ("date", "pg_catalog.date"),
    ("timestamp without time zone", "pg_catalog.timestamp"),
    ("timestamp with time zone", "pg_catalog.timestamptz"),
    ("uuid", "pg_catalog.uuid"),
    ("text", "pg_catalog.text"),
    ("character varying", "pg_catalog.text"),
    ("bpchar", "pg_catalog.bpchar"),
    // Compared by bytes: see `collation`.
    ("text collate C", "pg_catalog.text"),
    ("character varying collate C", "pg_catalog.text"),
    ("bpchar collate C", "pg_catalog.bpchar"),
];

/// SQL after a key that is compared by its bytes.
const BY_BYTES: &str = " COLLATE pg_catalog.\"C\"";

/// Ending of the plan's name for a type that is compared by bytes.
const IN_BYTES: &str = " collate C";

/// Whether the order of a type depends on a collation. `cast` is its name in plans.
fn has_collation(cast: &str) -> bool {
    matches!(cast, "text" | "character varying" | "bpchar")
}

/// Whether a type is compared by bytes. `cast` is its name in plans.
fn is_by_bytes(cast: &str) -> bool {
    cast.ends_with(IN_BYTES)
}

/// The name in plans of a type that is compared by bytes.
pub(super) fn by_bytes(cast: &str) -> String {
    format!("{cast}{IN_BYTES}")
}

/// How keys are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cast {
    /// The type of the keys' bounds, as SQL names it.
    pub(super) ty: &'static str,
    /// ` COLLATE …` if the order is not the column's own.
    pub(super) collate: &'static str,
    /// Whether the order depends on a collation.
    pub(super) has_collation: bool,
}

impl Cast {
    /// Whether keys are compared by their bytes.
    pub(super) fn is_by_bytes(&self) -> bool {
        !self.collate.is_empty()
    }
}

/// The SQL for a type in a plan. Only known types reach SQL (I7).
pub(super) fn cast(order: &Frozen) -> Result<Cast, SourceError> {
    let name: String = order.thaw().unwrap_or_default();
    let found = CASTS.iter().find(|(plan, _)| *plan == name);
    let collate = if is_by_bytes(&name) { BY_BYTES } else { "" };
    found.map(|(_, ty)| Cast { ty, collate, has_collation: has_collation(&name) }).ok_or_else(|| {
        SourceError::permanent("chunk_column", format!("a column of type {name:?} cannot be split by"))
            .with_remedy("choose another chunk_column or strategy")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::postgres::types::{PgType, range_key};

    #[test]
    fn every_key_that_the_type_table_knows_can_be_cast_to() {
        let mut known = 0;
        for oid in 1..4_000 {
            if let Some(key) = range_key(&PgType::base(oid, "", -1)) {
                assert_eq!(cast(&Frozen::of(&key.cast)).expect(key.cast).collate, "");
                known += 1;
                if has_collation(key.cast) {
                    assert_eq!(cast(&Frozen::of(&by_bytes(key.cast))).expect(key.cast).collate, BY_BYTES);
                    known += 1;
                }
            }
        }
        assert_eq!(known, CASTS.len());
    }
}
