//! The dictionary keys of a column.

use super::pack::{hybrid, width_of};
use super::table::Table;

/// Keys of the current page, and the look-up for further values.
pub(super) struct Keys {
    /// `None` after the dictionary was given up because it would have become too large.
    pub(super) table: Option<Table>,
    /// Keys of the current page.
    pub(super) page: Vec<u32>,
    /// Whether any finished page has keys.
    pub(super) is_used: bool,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self { table: Some(Table::new()), page: Vec::new(), is_used: false }
    }

    /// Whether the current page has keys or will have keys.
    pub(super) fn has_page(&self) -> bool {
        self.table.is_some() || !self.page.is_empty()
    }

    /// Appends the keys of the page to `body` and begins the next page. The dictionary has `values` values.
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

    /// Approximate size of the current page, in bytes.
    pub(super) fn encoded_bytes(&self, values: usize) -> usize {
        self.page.len() * width_of(values as u64) / 8
    }

    /// Size in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.table.as_ref().map_or(0, Table::memory_bytes) + self.page.capacity() * size_of::<u32>()
    }
}
