//! Arrays and sets.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, NullBufferBuilder};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;

use super::super::{Builder, Faults, Fields, Form, Misfit, Room, bytes_of_null, step_of_whole};
use super::scan::Scan;
use super::{Made, UNREADABLE};
use crate::message::setting::InfinityMode;
use crate::relation::column::ELEMENT;

/// NULL elements of more than this many bytes in memory count against [`Room`].
const NARROW: usize = 64;

struct List {
    field: FieldRef,
    elements: Made,
    /// Bytes of a NULL element in memory, if NULL elements count against `room`.
    wide: Option<usize>,
    room: Room,
    /// Number of elements so far.
    total: usize,
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of lists from JSON.
pub(in super::super) fn list(
    element: &Form,
    infinity: Option<InfinityMode>,
    room: &Room,
) -> Box<dyn Builder> {
    let ty = element.column_type();
    Box::new(List {
        field: Arc::new(ty.field(ELEMENT, true)),
        elements: Made::new(element, infinity, room),
        wide: Some(bytes_of_null(&ty.data_type())).filter(|&bytes| bytes > NARROW),
        room: room.clone(),
        total: 0,
        offsets: vec![0],
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

impl List {
    /// Makes the elements of one value.
    fn split(&mut self, value: &[u8]) -> Result<(), Misfit> {
        let mark = self.elements.mark();
        let mut split =
            Scan::new(value).list(|element| self.elements.push(element)).unwrap_or(Err(UNREADABLE));
        let count = self.elements.starts.len() - mark.1;
        if let (Ok(()), Some(width)) = (&split, self.wide) {
            split = self.room.take((count * width).saturating_sub(value.len()));
        }
        match split {
            Ok(()) => self.total += count,
            Err(_) => self.elements.back(mark),
        }
        split
    }
}

impl Builder for List {
    fn append(&mut self, fields: Fields<'_>) {
        for field in fields.iter() {
            let taken = match field.map(|field| self.split(field)) {
                Some(Ok(())) => true,
                Some(Err(misfit)) => {
                    self.faults.note(misfit);
                    false
                }
                None => false,
            };
            self.validity.append(taken);
            // If an offset overflows i32, it gets smaller than the one before, and `finish` refuses that.
            self.offsets.push(self.total as i32);
            if self.elements.is_full() {
                self.elements.flush();
            }
        }
        self.elements.flush();
    }

    fn step(&self) -> usize {
        if self.wide.is_some() { 1 } else { step_of_whole(self.elements.builder.step()) }
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some() || self.elements.builder.is_unfit()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let total = std::mem::take(&mut self.total);
        if i32::try_from(total).is_err() {
            return Err(ArrowError::OffsetOverflowError(total));
        }
        let (elements, faults) = self.elements.builder.finish()?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.offsets, vec![0])));
        let array = ListArray::try_new(self.field.clone(), offsets, elements, self.validity.finish())?;
        let mut all = std::mem::take(&mut self.faults);
        all.merge(faults);
        Ok((Arc::new(array), all))
    }
}
