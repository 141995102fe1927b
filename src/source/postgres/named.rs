//! The relations that a survey is about.

use crate::relation::RelationKind;

/// What is asked, in messages.
pub(super) const WHAT: &str = "read the catalogue";

/// A relation that is meant.
pub(super) struct Named {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) kind: RelationKind,
}

/// `'{1,2}'::oid[]`.
pub(super) fn oid_array(oids: impl Iterator<Item = u32>) -> String {
    let list: Vec<String> = oids.map(|o| o.to_string()).collect();
    format!("'{{{}}}'::pg_catalog.oid[]", list.join(","))
}
