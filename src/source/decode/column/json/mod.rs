//! Lists and structs that arrive as JSON: Vertica's arrays, sets and rows.
//!
//! `scan` finds the elements of a value without trusting it, and `leaf` turns each into the bytes that a field
//! of its form has. So the builder of an element is the builder of a column of its form. A value that cannot be
//! read exactly does not fit, so that its column can be exported as text instead.

use super::{Builder, Fields, Form, Misfit, text};
use crate::message::setting::InfinityMode;

mod leaf;
mod list;
mod row;
mod scan;
#[cfg(test)]
mod tests;

use self::leaf::Leaf;
pub(super) use self::leaf::is_exact;
pub(super) use self::list::list;
pub(super) use self::row::row;
use self::scan::Value;
use super::Room;

const UNREADABLE: Misfit = Misfit::Unfit("a value is not the JSON of its type");
const TOO_LARGE: Misfit = Misfit::Unfit("the elements of a value have more than 2 GiB");

/// Bytes of fields that are gathered before they go to their builder.
const GATHERED: usize = 1 << 20;

/// Fields that are made from elements of one kind, and their builder.
struct Made {
    leaf: Leaf,
    builder: Box<dyn Builder>,
    raw: Vec<u8>,
    starts: Vec<u32>,
}

impl Made {
    fn new(form: &Form, infinity: Option<InfinityMode>, room: &Room) -> Self {
        let leaf = Leaf::of(form);
        let builder = match leaf {
            // The text is exact already.
            Leaf::Text => text::text(),
            _ => form.builder(infinity, room),
        };
        Self { leaf, builder, raw: Vec::new(), starts: Vec::new() }
    }

    /// Where the next field will stand.
    fn mark(&self) -> (usize, usize) {
        (self.raw.len(), self.starts.len())
    }

    /// Drops fields since a mark.
    fn back(&mut self, mark: (usize, usize)) {
        self.raw.truncate(mark.0);
        self.starts.truncate(mark.1);
    }

    fn push(&mut self, value: Value<'_>) -> Result<(), Misfit> {
        let start = self.raw.len();
        // No length word may lie beyond the reach of an offset.
        self.starts
            .push(u32::try_from(start).ok().filter(|start| *start <= i32::MAX as u32).ok_or(TOO_LARGE)?);
        self.raw.extend([0xff; 4]);
        if !matches!(value, Value::Null) {
            self.leaf.write(value, &mut self.raw)?;
            let length = i32::try_from(self.raw.len() - start - 4).map_err(|_| TOO_LARGE)?;
            self.raw[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    fn push_null(&mut self) {
        self.starts.push(super::NOWHERE);
    }

    fn is_full(&self) -> bool {
        self.raw.len() >= GATHERED
    }

    /// Passes the fields on to their builder.
    fn flush(&mut self) {
        self.builder.append(Fields { raw: &self.raw, starts: &self.starts });
        self.starts.clear();
        self.raw.clear();
        if self.raw.capacity() > 4 * GATHERED {
            self.raw = Vec::new();
        }
    }
}
