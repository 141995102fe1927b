//! The relations of a survey.

use crate::relation::RelationKind;

/// The action, for messages.
pub(super) const WHAT: &str = "read the catalogue";

/// A relation that the request names or matches.
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
