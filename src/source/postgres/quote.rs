//! What PostgreSQL's SQL has besides plain names and values.

pub(super) use crate::source::sql::quote::{ident, literal, shown, table};

/// An array of texts: `ARRAY['a', 'b']::text[]`.
pub(super) fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = values.into_iter().map(literal).collect();
    format!("ARRAY[{}]::pg_catalog.text[]", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_of_texts_quotes_each() {
        assert_eq!(texts(["a", r"\"]), r"ARRAY['a', E'\\']::pg_catalog.text[]");
    }
}
