//! One-dimensional arrays, and multiranges.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, NullBufferBuilder};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;

use super::walk::Walk;
use super::{Builder, Faults, Fields, Form, Misfit, Room, bytes_of_null, step_of_whole};
use crate::message::setting::InfinityMode;
use crate::relation::column::ELEMENT;

/// NULL elements of more than this many bytes in memory count against [`Room`]. Smaller ones take at most 16
/// times their bytes in the stream.
const NARROW: usize = 64;
const FOREIGN: Misfit = Misfit::Foreign("a field is not the binary form of an array");

/// What precedes the elements.
#[derive(Clone, Copy)]
enum Head {
    /// Dimensions, type, length and first index.
    Array,
    /// The number of elements.
    Multirange,
}

struct List {
    head: Head,
    field: FieldRef,
    elements: Box<dyn Builder>,
    /// Bytes of a NULL element in memory, if NULL elements count against `room`.
    wide: Option<usize>,
    room: Room,
    starts: Vec<u32>,
    /// Number of elements so far.
    total: usize,
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of lists from arrays.
pub(super) fn list(element: &Form, infinity: Option<InfinityMode>, room: &Room) -> Box<dyn Builder> {
    with_head(Head::Array, element, infinity, room)
}

/// A builder of lists from multiranges.
pub(super) fn multirange(bound: &Form, infinity: Option<InfinityMode>, room: &Room) -> Box<dyn Builder> {
    with_head(Head::Multirange, &Form::Range(Box::new(bound.clone())), infinity, room)
}

fn with_head(head: Head, element: &Form, infinity: Option<InfinityMode>, room: &Room) -> Box<dyn Builder> {
    let ty = element.column_type();
    Box::new(List {
        head,
        field: Arc::new(ty.field(ELEMENT, true)),
        elements: element.builder(infinity, room),
        wide: Some(bytes_of_null(&ty.data_type())).filter(|&bytes| bytes > NARROW),
        room: room.clone(),
        starts: Vec::new(),
        total: 0,
        offsets: vec![0],
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

/// The number of elements that an array claims to have.
fn head_of_array(walk: &mut Walk<'_>) -> Result<i32, Misfit> {
    let dimensions = walk.word().ok_or(FOREIGN)?;
    let _has_nulls = walk.word().ok_or(FOREIGN)?;
    let _element = walk.word().ok_or(FOREIGN)?;
    match dimensions {
        0 => return Ok(0),
        1 => {}
        2..=6 => return Err(Misfit::Unfit("an array has more than one dimension")),
        _ => return Err(FOREIGN),
    }
    let count = walk.word().ok_or(FOREIGN)?;
    match walk.word() {
        Some(1) => Ok(count),
        Some(_) => Err(Misfit::Unfit("an array does not begin at index 1")),
        None => Err(FOREIGN),
    }
}

impl List {
    /// Stores where the elements of one value start. Nothing is allocated for the claimed number of elements,
    /// because the claim may be wrong.
    fn split(&mut self, start: u32, value: &[u8]) -> Result<(), Misfit> {
        let mut walk = Walk::new(start, value);
        let count = match self.head {
            Head::Array => head_of_array(&mut walk)?,
            Head::Multirange => walk.word().ok_or(FOREIGN)?,
        };
        let before = self.starts.len();
        let count = usize::try_from(count).map_err(|_| FOREIGN)?;
        for _ in 0..count {
            let Some((start, _)) = walk.nested() else { break };
            self.starts.push(start);
        }
        let whole = self.starts.len() - before == count && walk.is_done();
        let taken = match self.wide {
            _ if !whole => Err(FOREIGN),
            Some(width) => self.room.take((count * width).saturating_sub(value.len())),
            None => Ok(()),
        };
        if taken.is_err() {
            self.starts.truncate(before);
        }
        taken
    }
}

impl Builder for List {
    fn append(&mut self, fields: Fields<'_>) {
        self.starts.clear();
        for &start in fields.starts {
            let taken = match fields.get(start).map(|field| self.split(start, field)) {
                Some(Ok(())) => true,
                Some(Err(misfit)) => {
                    self.faults.note(misfit);
                    false
                }
                None => false,
            };
            self.validity.append(taken);
            // If an offset overflows i32, it gets smaller than the one before, and `finish` refuses that.
            self.offsets.push((self.total + self.starts.len()) as i32);
        }
        self.total += self.starts.len();
        self.elements.append(Fields { raw: fields.raw, starts: &self.starts });
    }

    fn step(&self) -> usize {
        if self.wide.is_some() { 1 } else { step_of_whole(self.elements.step()) }
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some() || self.elements.is_unfit()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let total = std::mem::take(&mut self.total);
        if i32::try_from(total).is_err() {
            return Err(ArrowError::OffsetOverflowError(total));
        }
        let (elements, faults) = self.elements.finish()?;
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
