//! The settings of a connection, each with the place that it comes from.

use std::collections::BTreeMap;

use super::invalid::InvalidDsn;
use super::place::{Place, Setting};

/// Settings whose values are never shown. `options` may set anything, and its text is nobody's business.
const HIDDEN: [&str; 2] = ["password", "options"];

#[derive(Clone)]
struct Value {
    bytes: Vec<u8>,
    place: Place,
}

/// Values by keyword.
#[derive(Clone, Default)]
pub(super) struct Values(BTreeMap<&'static str, Value>);

impl Values {
    /// Sets a value of the connection string. As in libpq, the last value of a keyword counts.
    pub(super) fn insert(&mut self, keyword: &'static str, bytes: Vec<u8>) {
        self.0.insert(keyword, Value { bytes, place: Place::Dsn });
    }

    /// Sets a value unless there is one. As in libpq, an empty one is one.
    pub(super) fn fill(&mut self, keyword: &'static str, bytes: Vec<u8>, place: Place) {
        self.0.entry(keyword).or_insert(Value { bytes, place });
    }

    pub(super) fn get(&self, keyword: &str) -> Option<&[u8]> {
        self.0.get(keyword).map(|value| value.bytes.as_slice())
    }

    /// A value as text, if it is not empty.
    pub(super) fn text(&self, keyword: &'static str) -> Result<Option<&str>, InvalidDsn> {
        let text = self.get(keyword).map(std::str::from_utf8).transpose();
        Ok(text.map_err(|_| InvalidDsn::Value(keyword, "UTF-8"))?.filter(|text| !text.is_empty()))
    }

    pub(super) fn keywords(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    pub(super) fn place(&self, keyword: &str) -> Option<&Place> {
        self.0.get(keyword).map(|value| &value.place)
    }

    /// All values that are not empty, to show them.
    pub(super) fn shown(&self) -> Vec<Setting> {
        let set = self.0.iter().filter(|(_, value)| !value.bytes.is_empty());
        set.map(|(keyword, value)| Setting {
            keyword,
            value: (!HIDDEN.contains(keyword)).then(|| String::from_utf8_lossy(&value.bytes).into_owned()),
            place: value.place.clone(),
        })
        .collect()
    }
}
