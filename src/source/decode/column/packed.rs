//! Values of a fixed width that become several numbers: intervals and points.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, NullBufferBuilder, StructArray};
use arrow::datatypes::{DataType, Fields as ArrowFields};
use arrow::error::ArrowError;

use super::fixed::WIDTH;
use super::{Builder, Faults, Fields, Misfit};
use crate::relation::ColumnType;

/// The numbers in the values of a column. A value has `W` bytes.
trait Numbers<const W: usize>: Default + Send {
    const TYPE: ColumnType;

    /// Whether the numbers can hold a value.
    #[inline]
    fn check(_value: [u8; W]) -> Result<(), Misfit> {
        Ok(())
    }

    fn push(&mut self, value: [u8; W]);
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

impl Numbers<16> for Intervals {
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

/// Vertica's intervals of days to seconds: microseconds. A day has 24 hours there, but is not told from them.
#[derive(Default)]
struct Microseconds(Intervals);

impl Numbers<8> for Microseconds {
    const TYPE: ColumnType = ColumnType::Interval;

    fn push(&mut self, value: [u8; 8]) {
        self.0.months.push(0);
        self.0.days.push(0);
        self.0.microseconds.push(i64::from_be_bytes(value));
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        self.0.take()
    }
}

/// Vertica's intervals of years to months: months.
#[derive(Default)]
struct Months(Intervals);

impl Months {
    fn months(value: [u8; 8]) -> Option<i32> {
        i32::try_from(i64::from_be_bytes(value)).ok()
    }
}

impl Numbers<8> for Months {
    const TYPE: ColumnType = ColumnType::Interval;

    fn check(value: [u8; 8]) -> Result<(), Misfit> {
        Self::months(value).map(|_| ()).ok_or(Misfit::Unfit("an interval has more than 2,147,483,647 months"))
    }

    fn push(&mut self, value: [u8; 8]) {
        self.0.months.push(Self::months(value).unwrap_or_default());
        self.0.days.push(0);
        self.0.microseconds.push(0);
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        self.0.take()
    }
}

#[derive(Default)]
struct Points {
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Numbers<16> for Points {
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

struct Packed<N, const W: usize> {
    fields: ArrowFields,
    numbers: N,
    validity: NullBufferBuilder,
    faults: Faults,
}

fn packed<N: Numbers<W> + 'static, const W: usize>() -> Box<dyn Builder> {
    let DataType::Struct(fields) = N::TYPE.data_type() else { unreachable!("both are structs") };
    Box::new(Packed::<N, W> {
        fields,
        numbers: N::default(),
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

/// A builder of intervals.
pub(super) fn interval() -> Box<dyn Builder> {
    packed::<Intervals, 16>()
}

/// A builder of intervals from microseconds.
pub(super) fn microseconds() -> Box<dyn Builder> {
    packed::<Microseconds, 8>()
}

/// A builder of intervals from months.
pub(super) fn months() -> Box<dyn Builder> {
    packed::<Months, 8>()
}

/// A builder of points.
pub(super) fn point() -> Box<dyn Builder> {
    packed::<Points, 16>()
}

impl<N: Numbers<W>, const W: usize> Builder for Packed<N, W> {
    fn append(&mut self, fields: Fields<'_>) {
        for &start in fields.starts {
            let mut value = fields.fixed::<W>(start);
            match value.map(N::check) {
                Some(Ok(())) => {}
                Some(Err(misfit)) => {
                    self.faults.note(misfit);
                    value = None;
                }
                None if fields.get(start).is_some() => self.faults.note(WIDTH),
                None => {}
            }
            self.numbers.push(value.unwrap_or([0; W]));
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

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    /// Months, days and microseconds of one value of eight bytes, or its faults.
    fn interval(mut builder: Box<dyn Builder>, value: i64) -> Result<(i32, i32, i64), Faults> {
        let raw = [&8_u32.to_be_bytes()[..], &value.to_be_bytes()].concat();
        builder.append(Fields { raw: &raw, starts: &[0] });
        let (array, faults) = builder.finish().expect("an array");
        if faults != Faults::default() {
            return Err(faults);
        }
        let array = array.as_struct();
        let small = |column: usize| array.column(column).as_primitive::<Int32Type>().value(0);
        Ok((small(0), small(1), array.column(2).as_primitive::<Int64Type>().value(0)))
    }

    #[test]
    fn intervals_of_one_number_keep_it() {
        for value in [0, -1, 86_400_000_000, i64::MAX, -i64::MAX] {
            assert_eq!(interval(microseconds(), value), Ok((0, 0, value)));
        }
        for value in [0, 22, -22, i32::MAX, i32::MIN] {
            assert_eq!(interval(months(), value.into()), Ok((value, 0, 0)));
        }
        for value in [i64::from(i32::MAX) + 1, i64::from(i32::MIN) - 1, i64::MAX, -i64::MAX] {
            assert!(interval(months(), value).expect_err("beyond 32 bits").unfit.is_some());
        }
    }
}
