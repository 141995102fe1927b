//! One-dimensional arrays.
//!
//! An element of a binary array has the form of a field of a row, so the
//! builder of the elements is the one that a column of their type has.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, NullBufferBuilder};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;

use super::{Builder, Faults, Fields, Misfit, native, numeric};
use crate::decode::types::oid;
use crate::plan::column::ColumnType;

const FOREIGN: Misfit = Misfit::Foreign("a field is not the binary form of an array");

struct List {
    field: FieldRef,
    elements: Box<dyn Builder>,
    /// For elements that are numerics although the list is of text or doubles.
    numerics: Option<Box<dyn Builder>>,
    /// Whether the elements on the wire are numerics, once one was seen.
    from_numeric: bool,
    starts: Vec<u32>,
    /// Elements so far.
    total: usize,
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of lists.
pub(super) fn list(element: &ColumnType) -> Box<dyn Builder> {
    Box::new(List {
        field: Arc::new(element.field("element", true)),
        elements: native(element),
        numerics: match element {
            ColumnType::Text => Some(numeric::text_from_numeric()),
            ColumnType::Float64 => Some(numeric::double_from_numeric()),
            _ => None,
        },
        from_numeric: false,
        starts: Vec::new(),
        total: 0,
        offsets: vec![0],
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

impl List {
    /// Notes where the elements of one array start in `raw`. The number of
    /// elements is believed only as far as there are bytes for them.
    fn array(&mut self, start: u32, field: &[u8]) -> Result<(), Misfit> {
        let (dimensions, rest) = word(field).ok_or(FOREIGN)?;
        let (_has_nulls, rest) = word(rest).ok_or(FOREIGN)?;
        let (element, rest) = word(rest).ok_or(FOREIGN)?;
        match dimensions {
            0 if rest.is_empty() => return Ok(()),
            0 => return Err(FOREIGN),
            1 => {}
            2..=6 => return Err(Misfit::Unfit("an array has more than one dimension")),
            _ => return Err(FOREIGN),
        }
        let (count, rest) = word(rest).ok_or(FOREIGN)?;
        let (lower, mut rest) = word(rest).ok_or(FOREIGN)?;
        if lower != 1 {
            return Err(Misfit::Unfit("an array does not begin at index 1"));
        }
        if self.numerics.is_some() {
            self.from_numeric = element as u32 == oid::NUMERIC;
        }
        let before = self.starts.len();
        // `start` points at the length word of the field.
        let end = start as usize + 4 + field.len();
        for _ in 0..count.max(0) {
            let here = end - rest.len();
            let Some((length, after)) = word(rest) else { break };
            let payload = match length {
                -1 => Some(after),
                _ => usize::try_from(length).ok().and_then(|length| after.get(length..)),
            };
            let Some(after) = payload else { break };
            self.starts.push(here as u32);
            rest = after;
        }
        let found = self.starts.len() - before;
        if usize::try_from(count) == Ok(found) && rest.is_empty() {
            return Ok(());
        }
        self.starts.truncate(before);
        Err(FOREIGN)
    }
}

impl Builder for List {
    fn append(&mut self, fields: Fields<'_>) {
        self.starts.clear();
        for &start in fields.starts {
            let taken = match fields.get(start).map(|field| self.array(start, field)) {
                Some(Ok(())) => true,
                Some(Err(misfit)) => {
                    self.faults.note(misfit);
                    false
                }
                None => false,
            };
            self.validity.append(taken);
            // Beyond i32 the offsets go down, which `finish` refuses.
            self.offsets.push((self.total + self.starts.len()) as i32);
        }
        self.total += self.starts.len();
        let elements = Fields { raw: fields.raw, starts: &self.starts };
        match &mut self.numerics {
            Some(numerics) if self.from_numeric => numerics.append(elements),
            _ => self.elements.append(elements),
        }
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let total = std::mem::take(&mut self.total);
        if i32::try_from(total).is_err() {
            return Err(ArrowError::OffsetOverflowError(total));
        }
        let (elements, faults) = match &mut self.numerics {
            Some(numerics) if self.from_numeric => numerics.finish()?,
            _ => self.elements.finish()?,
        };
        let mut next = Vec::with_capacity(self.offsets.len());
        next.push(0);
        let offsets = std::mem::replace(&mut self.offsets, next);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let array = ListArray::try_new(self.field.clone(), offsets, elements, self.validity.finish())?;
        let mut all = std::mem::take(&mut self.faults);
        all.merge(faults);
        Ok((Arc::new(array), all))
    }
}

/// The next big-endian word, and what follows it.
fn word(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<4>()?;
    Some((i32::from_be_bytes(*word), rest))
}
