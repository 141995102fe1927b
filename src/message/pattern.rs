//! Names and patterns of tables in requests: `schema.table`, literal and case-sensitive. `*` and `?` are
//! wildcards. A name with a dot, space, quote or wildcard of its own is written in double quotes, as in SQL.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Why a table name was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "table `{text}` is not `schema.table`: {why}; write e.g. public.orders, sales.* or \"my schema\".\"a.b\""
)]
pub struct InvalidPattern {
    text: String,
    why: &'static str,
}

/// Largest length of the pattern of one name, in characters. Names have at most 63 bytes.
const MAX_NAME: usize = 256;

/// A character of a name's pattern: literal or a wildcard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Glyph {
    Literal(char),
    Any,
    One,
}

/// A table by name, or a pattern of tables.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TablePattern {
    text: String,
    schema: Vec<Glyph>,
    table: Vec<Glyph>,
}

impl TablePattern {
    /// Parses `schema.table`.
    ///
    /// # Errors
    /// If the text does not have exactly two non-empty names, or has an open quote.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let fail = |why| InvalidPattern { text: text.chars().take(200).collect(), why };
        let mut names: Vec<Vec<Glyph>> = vec![Vec::new()];
        let mut chars = text.chars().peekable();
        let mut quoted = false;
        let mut closed = false;
        while let Some(c) = chars.next() {
            let name = names.last_mut().expect("there is always a last name");
            match c {
                '\0' => return Err(fail("a NUL character")),
                '"' if quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    name.push(Glyph::Literal('"'));
                }
                '"' if quoted => {
                    quoted = false;
                    closed = true;
                }
                _ if quoted => name.push(Glyph::Literal(c)),
                '.' => {
                    names.push(Vec::new());
                    closed = false;
                }
                _ if closed => return Err(fail("text after a closing quote")),
                '"' if name.is_empty() => quoted = true,
                '"' => return Err(fail("a quote in the middle of a name")),
                '*' => name.push(Glyph::Any),
                '?' => name.push(Glyph::One),
                c if c.is_whitespace() => return Err(fail("a space outside of quotes")),
                c => name.push(Glyph::Literal(c)),
            }
        }
        if quoted {
            return Err(fail("a quote that is never closed"));
        }
        let [schema, table] =
            <[_; 2]>::try_from(names).map_err(|_| fail("it needs one dot between schema and table"))?;
        if schema.is_empty() || table.is_empty() {
            return Err(fail("an empty name"));
        }
        if schema.len().max(table.len()) > MAX_NAME {
            return Err(fail("a name of more than 256 characters"));
        }
        Ok(Self { text: text.to_owned(), schema, table })
    }

    /// The pattern that matches only this table.
    #[must_use]
    pub fn exact(schema: &str, table: &str) -> Self {
        let literal = |s: &str| s.chars().map(Glyph::Literal).collect();
        Self { text: qualified(schema, table), schema: literal(schema), table: literal(table) }
    }

    /// Schema and table, if the pattern has no wildcard.
    #[must_use]
    pub fn literal(&self) -> Option<(String, String)> {
        Some((literal(&self.schema)?, literal(&self.table)?))
    }

    /// The schema, if it has no wildcard.
    #[must_use]
    pub fn literal_schema(&self) -> Option<String> {
        literal(&self.schema)
    }

    /// Whether the pattern matches the table.
    #[must_use]
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        glob(&self.schema, schema) && glob(&self.table, table)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A table's name as a request writes it: quoted if necessary.
#[must_use]
pub fn qualified(schema: &str, table: &str) -> String {
    let quoted = |s: &str| {
        let plain =
            !s.is_empty() && !s.chars().any(|c| c.is_whitespace() || matches!(c, '.' | '"' | '*' | '?'));
        if plain { s.to_owned() } else { format!("\"{}\"", s.replace('"', "\"\"")) }
    };
    format!("{}.{}", quoted(schema), quoted(table))
}

/// How log and traces name several tables: by the first one and the number of the others.
#[must_use]
pub fn with_others(first: String, others: usize) -> String {
    if others == 0 { first } else { format!("{first} and {others} more") }
}

fn literal(glyphs: &[Glyph]) -> Option<String> {
    glyphs.iter().map(|g| if let Glyph::Literal(c) = g { Some(*c) } else { None }).collect()
}

/// Matches wildcards without recursion: after a mismatch it goes back only to the last `*`.
fn glob(pattern: &[Glyph], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Glyph::Any) => {
                star = Some((p, t));
                p += 1;
            }
            Some(Glyph::One) => {
                p += 1;
                t += 1;
            }
            Some(Glyph::Literal(c)) if *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|g| *g == Glyph::Any)
}

impl TryFrom<String> for TablePattern {
    type Error = InvalidPattern;
    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        Self::parse(&text)
    }
}

impl std::str::FromStr for TablePattern {
    type Err = InvalidPattern;
    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        Self::parse(text)
    }
}

impl From<TablePattern> for String {
    fn from(pattern: TablePattern) -> String {
        pattern.text
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSchema for TablePattern {
    fn schema_name() -> Cow<'static, str> {
        "TablePattern".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "`schema.table`, case-sensitive. `*` and `?` are wildcards. A name with a dot, space, quote or wildcard of its own is written in double quotes.",
            "examples": ["public.orders", "sales.*", "\"my schema\".\"a.b\""]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> TablePattern {
        TablePattern::parse(text).expect(text)
    }

    #[test]
    fn wildcards_match_and_quoted_ones_do_not() {
        assert!(pattern("sales.*").matches("sales", "tmp_1"));
        assert!(pattern("s?les.tmp_*").matches("sales", "tmp_1"));
        assert!(!pattern("sales.\"*\"").matches("sales", "tmp_1"));
        assert!(pattern("sales.\"*\"").matches("sales", "*"));
        assert!(pattern("*.*").matches("a", ""));
        assert!(!pattern("Sales.x").matches("sales", "x"));
        assert!(pattern("s.*a*b").matches("s", "xxaxxaxb"));
    }

    #[test]
    fn quoted_names_keep_dots_quotes_and_case() {
        let p = pattern("\"my schema\".\"a.\"\"b\"");
        assert_eq!(p.literal(), Some(("my schema".into(), "a.\"b".into())));
        assert_eq!(qualified("my schema", "a.\"b"), p.as_str());
        assert_eq!(TablePattern::exact("my schema", "a.\"b"), p);
    }

    #[test]
    fn what_is_not_two_names_is_refused() {
        for bad in ["orders", "a.b.c", ".x", "x.", "a.\"b", "a b.c", "\"a\"b.c", "a.b\"c\""] {
            assert!(TablePattern::parse(bad).is_err(), "{bad}");
        }
    }
}
