//! Arrays, and multiranges. An array of several dimensions is a list of lists.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, NullBufferBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;

use super::walk::Walk;
use super::{Builder, Faults, Fields, Form, Misfit, Room, bytes_of_null, step_of_whole};
use crate::message::setting::InfinityMode;
use crate::relation::column::{ColumnType, ELEMENT};

/// NULL elements of more than this many bytes in memory count against [`Room`]. Smaller ones take at most 16
/// times their bytes in the stream.
const NARROW: usize = 64;
const FOREIGN: Misfit = Misfit::Foreign("a field is not the binary form of an array");

/// What precedes the elements.
#[derive(Clone, Copy)]
enum Head {
    /// Dimensions, type, and for each dimension its length and first index.
    Array,
    /// The number of elements.
    Multirange,
}

/// The lists of one level.
struct Level {
    /// What the lists contain: elements, or the lists of the next level.
    field: FieldRef,
    offsets: Vec<i32>,
    /// How much the lists contain so far.
    total: usize,
}

impl Level {
    /// Ends a list. If an offset overflows i32, it gets smaller than the one before, and `finish` refuses
    /// that.
    fn push(&mut self, length: usize) {
        self.total += length;
        self.offsets.push(self.total as i32);
    }

    fn finish(&mut self, within: ArrayRef, validity: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        let total = std::mem::take(&mut self.total);
        if i32::try_from(total).is_err() {
            return Err(ArrowError::OffsetOverflowError(total));
        }
        let mut next = Vec::with_capacity(self.offsets.len());
        next.push(0);
        let offsets = std::mem::replace(&mut self.offsets, next);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Ok(Arc::new(ListArray::try_new(self.field.clone(), offsets, within, validity)?))
    }
}

struct List {
    head: Head,
    /// One for each dimension, the outermost first.
    levels: Vec<Level>,
    elements: Box<dyn Builder>,
    /// Bytes of a NULL element in memory, if NULL elements count against `room`.
    wide: Option<usize>,
    room: Room,
    /// The length of each dimension of one value.
    lengths: Vec<usize>,
    starts: Vec<u32>,
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of lists from arrays of this number of dimensions.
pub(super) fn list(
    element: &Form,
    dimensions: u8,
    infinity: Option<InfinityMode>,
    room: &Room,
) -> Box<dyn Builder> {
    with_head(Head::Array, element, dimensions, infinity, room)
}

/// A builder of lists from multiranges.
pub(super) fn multirange(bound: &Form, infinity: Option<InfinityMode>, room: &Room) -> Box<dyn Builder> {
    with_head(Head::Multirange, &Form::Range(Box::new(bound.clone())), 1, infinity, room)
}

fn with_head(
    head: Head,
    element: &Form,
    dimensions: u8,
    infinity: Option<InfinityMode>,
    room: &Room,
) -> Box<dyn Builder> {
    let ty = element.column_type();
    let wide = Some(bytes_of_null(&ty.data_type())).filter(|&bytes| bytes > NARROW);
    let within = |ty: &ColumnType| Some(ColumnType::List(Box::new(ty.clone())));
    let level =
        |ty: ColumnType| Level { field: Arc::new(ty.field(ELEMENT, true)), offsets: vec![0], total: 0 };
    let mut levels: Vec<Level> =
        std::iter::successors(Some(ty), within).take(dimensions.into()).map(level).collect();
    levels.reverse();
    Box::new(List {
        head,
        elements: element.builder(infinity, room),
        wide,
        room: room.clone(),
        lengths: vec![0; levels.len()],
        levels,
        starts: Vec::new(),
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

/// Lists begin at index 1.
const SHIFTED: &str = "an array does not begin at index 1";

/// The lengths of the dimensions that an array claims to have.
#[inline]
fn head_of_array(walk: &mut Walk<'_>, lengths: &mut [usize]) -> Result<(), Misfit> {
    let dimensions = walk.word().ok_or(FOREIGN)?;
    let _has_nulls = walk.word().ok_or(FOREIGN)?;
    let _element = walk.word().ok_or(FOREIGN)?;
    let dimensions = match u8::try_from(dimensions) {
        Ok(0) => {
            lengths.fill(0);
            return Ok(());
        }
        Ok(found @ 1..=6) => found,
        _ => return Err(FOREIGN),
    };
    // Nearly all arrays have one dimension.
    if let (1, [length]) = (dimensions, &mut *lengths) {
        *length = walk.word().and_then(|length| length.try_into().ok()).ok_or(FOREIGN)?;
        return match walk.word().ok_or(FOREIGN)? {
            1 => Ok(()),
            _ => Err(Misfit::Unfit(SHIFTED)),
        };
    }
    if usize::from(dimensions) != lengths.len() {
        let reason = match lengths.len() {
            1 => "an array has more than one dimension",
            _ => "an array has another number of dimensions than was planned",
        };
        return Err(Misfit::Dimensions(dimensions, reason));
    }
    let mut begins_at_one = true;
    for length in lengths {
        *length = walk.word().and_then(|length| length.try_into().ok()).ok_or(FOREIGN)?;
        begins_at_one &= walk.word().ok_or(FOREIGN)? == 1;
    }
    if begins_at_one { Ok(()) } else { Err(Misfit::Unfit(SHIFTED)) }
}

impl List {
    /// Stores where the elements of one value start. Nothing is allocated for the claimed number of elements,
    /// because the claim may be wrong.
    fn split(&mut self, start: u32, value: &[u8]) -> Result<(), Misfit> {
        let mut walk = Walk::new(start, value);
        match self.head {
            Head::Array => head_of_array(&mut walk, &mut self.lengths)?,
            Head::Multirange => {
                let count = walk.word().and_then(|count| count.try_into().ok());
                self.lengths[0] = count.ok_or(FOREIGN)?;
            }
        }
        let before = self.starts.len();
        let count = match *self.lengths {
            [count] => count,
            _ => self.lengths.iter().try_fold(1_usize, |n, length| n.checked_mul(*length)).ok_or(FOREIGN)?,
        };
        if count == 0 {
            // An array without elements has no dimensions.
            self.lengths.fill(0);
        }
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

    /// Ends the lists of one value. A value that was not taken is an empty list.
    fn end(&mut self, taken: bool) {
        if let ([level], [length]) = (&mut *self.levels, &*self.lengths) {
            return level.push(if taken { *length } else { 0 });
        }
        let mut lists = 1;
        for (level, length) in self.levels.iter_mut().zip(&self.lengths) {
            let length = if taken { *length } else { 0 };
            for _ in 0..lists {
                level.push(length);
            }
            lists *= length;
        }
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
            self.end(taken);
        }
        self.elements.append(Fields { raw: fields.raw, starts: &self.starts });
    }

    fn step(&self) -> usize {
        if self.wide.is_some() { 1 } else { step_of_whole(self.elements.step()) }
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some() || self.elements.is_unfit()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let (mut array, faults) = self.elements.finish()?;
        let validity = self.validity.finish();
        for (depth, level) in self.levels.iter_mut().enumerate().rev() {
            // Only the array itself may be NULL, and its elements.
            let validity = if depth == 0 { validity.clone() } else { None };
            array = level.finish(array, validity)?;
        }
        let mut all = std::mem::take(&mut self.faults);
        all.merge(faults);
        Ok((array, all))
    }
}
