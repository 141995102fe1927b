//! Reads JSON that people write. It reports a field that is given twice: most parsers silently take the last
//! value, and often the writer meant the other one.

use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A JSON text that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The value. Of a field that is given twice it has the last value.
    pub value: Value,
    /// Path of the first field that is given twice, e.g. `tables[2].where`.
    pub repeated: Option<String>,
}

impl Document {
    /// Reads a text.
    ///
    /// # Errors
    /// Says at which line and column the text is not JSON.
    pub fn read(text: &str) -> serde_json::Result<Self> {
        let mut place = Place::default();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = Node(&mut place).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(Self { value, repeated: place.repeated })
    }
}

/// The current place of the reader, and what it found.
#[derive(Default)]
struct Place {
    path: String,
    repeated: Option<String>,
}

struct Node<'a>(&'a mut Place);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Place { path, .. } = self.0;
        let length = path.len();
        let mut list = Vec::new();
        loop {
            // Writing to a String cannot fail.
            let _ = write!(self.0.path, "[{}]", list.len());
            let item = items.next_element_seed(Node(self.0))?;
            self.0.path.truncate(length);
            match item {
                Some(item) => list.push(item),
                None => return Ok(list.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let length = self.0.path.len();
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if length > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&name);
            if object.contains_key(&name) && self.0.repeated.is_none() {
                self.0.repeated = Some(self.0.path.clone());
            }
            let value = fields.next_value_seed(Node(self.0))?;
            self.0.path.truncate(length);
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated(text: &str) -> Option<String> {
        Document::read(text).expect(text).repeated
    }

    #[test]
    fn a_field_given_twice_is_found_at_every_depth() {
        assert_eq!(repeated(r#"{"a": 1, "a": 1}"#).as_deref(), Some("a"));
        assert_eq!(repeated(r#"{"a": [{"b": 1}, {"b": 1, "c": 2, "b": 3}]}"#).as_deref(), Some("a[1].b"));
        assert_eq!(repeated(r#"{"a": {"b": {"c": null, "c": null}}}"#).as_deref(), Some("a.b.c"));
        assert_eq!(repeated(r#"[[], [{"x": 1, "x": 2}]]"#).as_deref(), Some("[1][0].x"));
        assert_eq!(repeated(r#"{"a": {"b": 1}, "b": 1, "c": [{"a": 1}]}"#), None);
        assert_eq!(repeated(r#"{"a": 1, "\u0061": 2}"#).as_deref(), Some("a"), "an escape is the same name");
    }

    #[test]
    fn all_else_is_as_the_library_reads_it() {
        for text in [
            r#"{"a": [1, -1, 1.5, 1e400, 18446744073709551615, true, null, "\u00e9\n", {}, []]}"#,
            r#"{"a": [1, -1, 1.5, 123456789012345678901234567890, -9223372036854775808, "x"]}"#,
            "",
            "nope",
            "{",
            "[1,]",
            r#"{"a" 1}"#,
            "1 2",
            r#"{"a": 01}"#,
            "\u{FEFF}{}",
            &"[".repeat(1000),
        ] {
            let theirs = serde_json::from_str::<Value>(text).map_err(|e| e.to_string());
            let ours = Document::read(text).map(|d| d.value).map_err(|e| e.to_string());
            assert_eq!(ours, theirs, "{text}");
        }
    }
}
