//! Vectors of pgvector: numbers of single or half precision.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, FixedSizeListArray, Float32Array, ListArray, NullBufferBuilder,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Float16Type};
use arrow::error::ArrowError;

use super::{Builder, Faults, Fields, Misfit};
use crate::relation::ColumnType;

const FOREIGN: Misfit = Misfit::Foreign("a field is not the binary form of the planned vector");

type Half = <Float16Type as ArrowPrimitiveType>::Native;

struct Vectors {
    element: FieldRef,
    length: Option<u16>,
    half: bool,
    values: Vec<f32>,
    rows: usize,
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of vectors.
pub(super) fn vector(length: Option<u16>, half: bool) -> Box<dyn Builder> {
    let element = match (ColumnType::Vector { length }).data_type() {
        DataType::List(element) | DataType::FixedSizeList(element, _) => element,
        other => unreachable!("a vector is no {other}"),
    };
    Box::new(Vectors {
        element,
        length,
        half,
        values: Vec::new(),
        rows: 0,
        offsets: vec![0],
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

impl Vectors {
    /// Appends the numbers of one vector. The field has their count, two unused bytes, then the numbers.
    fn read(&mut self, field: &[u8]) -> Option<()> {
        let ([c0, c1, _, _], numbers) = field.split_first_chunk::<4>()?;
        let count = u16::from_be_bytes([*c0, *c1]);
        if self.length.is_some_and(|length| length != count) {
            return None;
        }
        if self.half {
            let (numbers, rest) = numbers.as_chunks::<2>();
            if numbers.len() != usize::from(count) || !rest.is_empty() {
                return None;
            }
            self.values.extend(numbers.iter().map(|n| Half::from_bits(u16::from_be_bytes(*n)).to_f32()));
        } else {
            let (numbers, rest) = numbers.as_chunks::<4>();
            if numbers.len() != usize::from(count) || !rest.is_empty() {
                return None;
            }
            self.values.extend(numbers.iter().map(|n| f32::from_be_bytes(*n)));
        }
        Some(())
    }
}

impl Builder for Vectors {
    fn append(&mut self, fields: Fields<'_>) {
        for field in fields.iter() {
            let taken = field.is_some_and(|field| self.read(field).is_some());
            if !taken {
                if field.is_some() {
                    self.faults.note(FOREIGN);
                }
                self.values.extend(std::iter::repeat_n(0.0, usize::from(self.length.unwrap_or(0))));
            }
            self.validity.append(taken);
            // If an offset overflows i32, it gets smaller than the one before, and `finish` refuses that.
            self.offsets.push(self.values.len() as i32);
        }
        self.rows += fields.starts.len();
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let values = std::mem::take(&mut self.values);
        if i32::try_from(values.len()).is_err() {
            return Err(ArrowError::OffsetOverflowError(values.len()));
        }
        let (element, validity) = (self.element.clone(), self.validity.finish());
        let rows = std::mem::take(&mut self.rows);
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        let values: ArrayRef = Arc::new(Float32Array::from(values));
        let array: ArrayRef = match self.length {
            Some(length) => {
                let length = i32::from(length);
                Arc::new(FixedSizeListArray::try_new_with_length(element, length, values, validity, rows)?)
            }
            None => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(ListArray::try_new(element, offsets, values, validity)?)
            }
        };
        Ok((array, std::mem::take(&mut self.faults)))
    }
}
