//! Writes names and values in SQL. Invariant I7: everything from a message, a plan or the catalogue is quoted
//! here before it reaches SQL.

/// Quotes an identifier.
pub(in crate::source) fn ident(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('"');
    for c in name.chars() {
        if c == '"' {
            quoted.push('"');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// Quotes `schema.name`.
pub(in crate::source) fn table(schema: &str, name: &str) -> String {
    let mut quoted = ident(schema);
    quoted.push('.');
    quoted.push_str(&ident(name));
    quoted
}

/// Quotes a value so that it is correct with either setting of `standard_conforming_strings`.
pub(in crate::source) fn literal(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 3);
    if value.contains('\\') {
        quoted.push('E');
    }
    quoted.push('\'');
    for c in value.chars() {
        if c == '\'' || c == '\\' {
            quoted.push(c);
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

/// A relation's name for messages, not for SQL.
pub(in crate::source) fn shown(schema: &str, name: &str) -> String {
    crate::message::pattern::qualified(schema, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_in_names_and_values_are_doubled() {
        assert_eq!(ident("a\"; DROP TABLE x; --"), "\"a\"\"; DROP TABLE x; --\"");
        assert_eq!(table("my schema", "a.\"b"), "\"my schema\".\"a.\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn backslashes_mean_themselves_whatever_the_server_thinks_of_them() {
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
    }
}
