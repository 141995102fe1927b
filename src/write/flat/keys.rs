//! The keys of a column that has a dictionary.

use super::pack::{hybrid, width_of};
use super::table::Table;

/// Keys of the page under way, and the look-up of those to come.
pub(super) struct Keys {
    /// Gone when the dictionary has been given up: it would have become too large.
    pub(super) table: Option<Table>,
    /// Those of the page.
    pub(super) page: Vec<u32>,
    /// Whether a page has keys.
    pub(super) is_used: bool,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self { table: Some(Table::new()), page: Vec::new(), is_used: false }
    }

    /// Whether the page under way has keys, or will have.
    pub(super) fn has_page(&self) -> bool {
        self.table.is_some() || !self.page.is_empty()
    }

    /// Appends the keys of the page, of a dictionary of so many values, and begins the next.
    pub(super) fn finish_page(&mut self, values: usize, body: &mut Vec<u8>) {
        let width = width_of(values.saturating_sub(1) as u64);
        body.push(width as u8);
        hybrid(&self.page, width, body);
        self.page.clear();
        if self.table.is_none() {
            self.page = Vec::new();
        }
        self.is_used = true;
    }

    /// Bytes of the page under way, nearly.
    pub(super) fn encoded_bytes(&self, values: usize) -> usize {
        self.page.len() * width_of(values as u64) / 8
    }

    /// Bytes that they have in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.table.as_ref().map_or(0, Table::memory_bytes) + self.page.capacity() * size_of::<u32>()
    }
}
