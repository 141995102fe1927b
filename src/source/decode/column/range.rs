//! Ranges: flags, then the bounds that exist.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, BooleanBufferBuilder, NullBufferBuilder, StructArray};
use arrow::datatypes::{DataType, Fields as ArrowFields};
use arrow::error::ArrowError;

use super::walk::Walk;
use super::{Builder, Faults, Fields, Form, Misfit, NOWHERE, Room, step_of_whole};
use crate::message::setting::InfinityMode;

const FOREIGN: Misfit = Misfit::Foreign("a field is not the binary form of the planned range");

const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;

struct Range {
    fields: ArrowFields,
    /// Lower and upper.
    bounds: [Box<dyn Builder>; 2],
    starts: [Vec<u32>; 2],
    /// Whether the lower and the upper bound are inclusive, and whether the range is empty.
    flags: [BooleanBufferBuilder; 3],
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of ranges.
pub(super) fn range(bound: &Form, infinity: Option<InfinityMode>, room: &Room) -> Box<dyn Builder> {
    let DataType::Struct(fields) = Form::Range(Box::new(bound.clone())).column_type().data_type() else {
        unreachable!("ranges are structs");
    };
    Box::new(Range {
        fields,
        bounds: [bound.builder(infinity, room), bound.builder(infinity, room)],
        starts: [Vec::new(), Vec::new()],
        flags: std::array::from_fn(|_| BooleanBufferBuilder::new(0)),
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

/// The flags of one range, and where its bounds start.
fn split(mut walk: Walk<'_>) -> Option<(u8, [u32; 2])> {
    let flags = walk.byte()?;
    let mut starts = [NOWHERE; 2];
    for (start, infinite) in starts.iter_mut().zip([LOWER_INFINITE, UPPER_INFINITE]) {
        if flags & (EMPTY | infinite) == 0 {
            let (at, null) = walk.nested()?;
            if null {
                return None;
            }
            *start = at;
        }
    }
    walk.is_done().then_some((flags, starts))
}

impl Builder for Range {
    fn append(&mut self, fields: Fields<'_>) {
        self.starts.iter_mut().for_each(Vec::clear);
        for &start in fields.starts {
            let field = fields.get(start);
            let range = field.and_then(|field| split(Walk::new(start, field)));
            if field.is_some() && range.is_none() {
                self.faults.note(FOREIGN);
            }
            self.validity.append(range.is_some());
            let (flags, starts) = range.unwrap_or((0, [NOWHERE; 2]));
            for (all, start) in self.starts.iter_mut().zip(starts) {
                all.push(start);
            }
            for (all, flag) in self.flags.iter_mut().zip([LOWER_INCLUSIVE, UPPER_INCLUSIVE, EMPTY]) {
                all.append(flags & flag != 0);
            }
        }
        for (bound, starts) in self.bounds.iter_mut().zip(&self.starts) {
            bound.append(Fields { raw: fields.raw, starts });
        }
    }

    fn step(&self) -> usize {
        step_of_whole(self.bounds[0].step())
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some() || self.bounds.iter().any(|bound| bound.is_unfit())
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let mut all = std::mem::take(&mut self.faults);
        let mut arrays = Vec::with_capacity(self.fields.len());
        for bound in &mut self.bounds {
            let (array, faults) = bound.finish()?;
            all.merge(faults);
            arrays.push(array);
        }
        for flags in &mut self.flags {
            arrays.push(Arc::new(BooleanArray::new(flags.finish(), None)) as ArrayRef);
        }
        let array = StructArray::try_new(self.fields.clone(), arrays, self.validity.finish())?;
        Ok((Arc::new(array), all))
    }
}
