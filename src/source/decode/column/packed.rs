//! Values of 16 bytes that contain several numbers: intervals and points.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, NullBufferBuilder, StructArray};
use arrow::datatypes::{DataType, Fields as ArrowFields};
use arrow::error::ArrowError;

use super::fixed::WIDTH;
use super::{Builder, Faults, Fields};
use crate::relation::ColumnType;

/// The numbers in the values of a column.
trait Numbers: Default + Send {
    const TYPE: ColumnType;

    fn push(&mut self, value: [u8; 16]);
    fn take(&mut self) -> Vec<ArrayRef>;
}

/// In the stream: microseconds, days, months. All three are at their extremes in an infinite interval
/// (PostgreSQL 17).
#[derive(Default)]
struct Intervals {
    months: Vec<i32>,
    days: Vec<i32>,
    microseconds: Vec<i64>,
}

impl Numbers for Intervals {
    const TYPE: ColumnType = ColumnType::Interval;

    fn push(&mut self, value: [u8; 16]) {
        let value = u128::from_be_bytes(value);
        self.microseconds.push((value >> 64) as i64);
        self.days.push((value >> 32) as i32);
        self.months.push(value as i32);
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(Int32Array::from(std::mem::take(&mut self.months))),
            Arc::new(Int32Array::from(std::mem::take(&mut self.days))),
            Arc::new(Int64Array::from(std::mem::take(&mut self.microseconds))),
        ]
    }
}

#[derive(Default)]
struct Points {
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Numbers for Points {
    const TYPE: ColumnType = ColumnType::Point;

    fn push(&mut self, value: [u8; 16]) {
        let value = u128::from_be_bytes(value);
        self.x.push(f64::from_bits((value >> 64) as u64));
        self.y.push(f64::from_bits(value as u64));
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(Float64Array::from(std::mem::take(&mut self.x))),
            Arc::new(Float64Array::from(std::mem::take(&mut self.y))),
        ]
    }
}

struct Packed<N> {
    fields: ArrowFields,
    numbers: N,
    validity: NullBufferBuilder,
    faults: Faults,
}

fn packed<N: Numbers + 'static>() -> Box<dyn Builder> {
    let DataType::Struct(fields) = N::TYPE.data_type() else { unreachable!("both are structs") };
    Box::new(Packed {
        fields,
        numbers: N::default(),
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

/// A builder of intervals.
pub(super) fn interval() -> Box<dyn Builder> {
    packed::<Intervals>()
}

/// A builder of points.
pub(super) fn point() -> Box<dyn Builder> {
    packed::<Points>()
}

impl<N: Numbers> Builder for Packed<N> {
    fn append(&mut self, fields: Fields<'_>) {
        for &start in fields.starts {
            let value = fields.fixed::<16>(start);
            if value.is_none() && fields.get(start).is_some() {
                self.faults.note(WIDTH);
            }
            self.numbers.push(value.unwrap_or_default());
            self.validity.append(value.is_some());
        }
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let array = StructArray::try_new(self.fields.clone(), self.numbers.take(), self.validity.finish())?;
        Ok((Arc::new(array), std::mem::take(&mut self.faults)))
    }
}
