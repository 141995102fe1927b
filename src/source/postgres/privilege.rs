//! Which right helps when the server denies access (SQLSTATE 42501). The server names kind and object only in
//! its message, in the language of `lc_messages`. If that is not English, the remedy lists all possible
//! rights.

use super::quote::ident;
use crate::config::{Advice, Remedy};

/// Kinds of objects in the server's messages (`aclcheck_error`), with the statement that grants the right to
/// read or use one.
const KINDS: [(&str, &str); 18] = [
    ("materialized view", "GRANT SELECT ON"),
    ("foreign table", "GRANT SELECT ON"),
    ("table", "GRANT SELECT ON"),
    ("view", "GRANT SELECT ON"),
    ("relation", "GRANT SELECT ON"),
    ("sequence", "GRANT SELECT ON SEQUENCE"),
    ("column", "GRANT SELECT ON the table of column"),
    ("function", "GRANT EXECUTE ON FUNCTION"),
    ("procedure", "GRANT EXECUTE ON PROCEDURE"),
    ("routine", "GRANT EXECUTE ON ROUTINE"),
    ("aggregate", "GRANT EXECUTE ON FUNCTION"),
    ("schema", "GRANT USAGE ON SCHEMA"),
    ("type", "GRANT USAGE ON TYPE"),
    ("domain", "GRANT USAGE ON DOMAIN"),
    ("foreign server", "GRANT USAGE ON FOREIGN SERVER"),
    ("foreign-data wrapper", "GRANT USAGE ON FOREIGN DATA WRAPPER"),
    ("language", "GRANT USAGE ON LANGUAGE"),
    ("database", "GRANT CONNECT ON DATABASE"),
];

/// The remedy for this message; `None` if the message is not understood.
pub(super) fn remedy(message: &str) -> Option<Remedy> {
    if message.contains("row-level security") {
        return Some(Advice::AllRows.into());
    }
    let object = message.strip_prefix("permission denied for ")?;
    if let Some(number) = object.strip_prefix("large object ") {
        let remedy = format!("grant it to the role: GRANT SELECT ON LARGE OBJECT {number} TO <role>");
        return Some(remedy.into());
    }
    let (kind, grant, name) = KINDS
        .iter()
        .find_map(|(kind, grant)| Some((*kind, *grant, object.strip_prefix(kind)?.strip_prefix(' ')?)))?;
    let whom = match kind {
        // A view reads its tables with its owner's rights, unless it is a `security_invoker` view.
        "table" | "view" | "materialized view" | "foreign table" | "relation" => {
            " (where a view reads it, to the owner of the view, or to the role if the view is a security_invoker)"
        }
        _ => "",
    };
    let name = if kind == "column" { name.to_owned() } else { ident(name) };
    let arguments =
        if grant.contains(" EXECUTE ") { " with its schema and the types of its arguments" } else { "" };
    let remedy = format!("grant it to the role{whom}: {grant} {name}{arguments} TO <role>");
    Some(remedy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_object_has_its_own_right() {
        for (object, grant) in [
            ("table a b", "GRANT SELECT ON \"a b\" TO <role>"),
            ("view v", "GRANT SELECT ON \"v\" TO <role>"),
            ("materialized view m", "GRANT SELECT ON \"m\" TO <role>"),
            ("foreign table f", "GRANT SELECT ON \"f\" TO <role>"),
            ("sequence s", "GRANT SELECT ON SEQUENCE \"s\" TO <role>"),
            ("function st_asbinary", "GRANT EXECUTE ON FUNCTION \"st_asbinary\" with its schema"),
            ("procedure p", "GRANT EXECUTE ON PROCEDURE \"p\""),
            ("aggregate a", "GRANT EXECUTE ON FUNCTION \"a\""),
            ("schema secret", "GRANT USAGE ON SCHEMA \"secret\" TO <role>"),
            ("type mood", "GRANT USAGE ON TYPE \"mood\" TO <role>"),
            ("domain d", "GRANT USAGE ON DOMAIN \"d\" TO <role>"),
            ("foreign server far", "GRANT USAGE ON FOREIGN SERVER \"far\" TO <role>"),
            ("foreign-data wrapper w", "GRANT USAGE ON FOREIGN DATA WRAPPER \"w\" TO <role>"),
            ("language plperl", "GRANT USAGE ON LANGUAGE \"plperl\" TO <role>"),
            ("database d", "GRANT CONNECT ON DATABASE \"d\" TO <role>"),
            ("large object 4711", "GRANT SELECT ON LARGE OBJECT 4711 TO <role>"),
            ("column \"c\" of relation \"t\"", "GRANT SELECT ON the table of column \"c\" of relation \"t\""),
        ] {
            let Some(Remedy::Text(said)) = remedy(&format!("permission denied for {object}")) else {
                panic!("{object} has no text");
            };
            assert!(said.contains(grant), "{object}: {said}");
            assert_eq!(said.contains("owner of the view"), grant.starts_with("GRANT SELECT ON \""), "{said}");
        }
        let hidden = "query would be affected by row-level security policy for table \"t\"";
        assert_eq!(remedy(hidden), Some(Advice::AllRows.into()));
        for foreign in ["keine Berechtigung für Tabelle t", "permission denied to set parameter \"x\""] {
            assert_eq!(remedy(foreign), None);
        }
    }
}
