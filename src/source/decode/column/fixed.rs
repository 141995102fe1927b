//! Values of a fixed width: numbers, booleans, UUIDs.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray, NullBufferBuilder, PrimitiveArray,
};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use arrow::error::ArrowError;

use super::builder::StoredBuilder;
use super::{Builder, Faults, Fields, Misfit, Stored, StoredForm};

/// A field whose length differs from the length of its type.
pub(super) const WIDTH: Misfit = Misfit::Foreign("a field does not have the length of the planned type");

/// A value of `W` bytes that becomes a number in an Arrow array.
pub(super) trait Decode<const W: usize>: Send + 'static {
    /// The array's type.
    type Arrow: ArrowPrimitiveType;

    /// The time zone of the array's type.
    const ZONE: Option<&'static str> = None;

    /// Reads one value.
    fn decode(bytes: [u8; W]) -> Result<<Self::Arrow as ArrowPrimitiveType>::Native, Misfit>;
}

macro_rules! big_endian {
    ($name:ident, $arrow:ident, $width:literal, $native:ty) => {
        /// Big-endian on the wire.
        pub(super) struct $name;

        impl Decode<$width> for $name {
            type Arrow = arrow::datatypes::$arrow;

            #[inline]
            fn decode(bytes: [u8; $width]) -> Result<$native, Misfit> {
                Ok(<$native>::from_be_bytes(bytes))
            }
        }
    };
}

big_endian!(Int16, Int16Type, 2, i16);
big_endian!(Int32, Int32Type, 4, i32);
big_endian!(Int64, Int64Type, 8, i64);
big_endian!(UInt32, UInt32Type, 4, u32);
big_endian!(Float32, Float32Type, 4, f32);
big_endian!(Float64, Float64Type, 8, f64);

struct Primitive<D: Decode<W>, const W: usize> {
    values: Vec<<D::Arrow as ArrowPrimitiveType>::Native>,
    validity: NullBufferBuilder,
    faults: Faults,
    /// Whether the last block had NULLs. The next block then probably has NULLs too.
    mixed: bool,
    decode: PhantomData<D>,
}

/// A builder of numbers.
pub(super) fn primitive<D: Decode<W>, const W: usize>() -> Box<dyn Builder> {
    Box::new(Primitive::<D, W> {
        values: Vec::new(),
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
        mixed: false,
        decode: PhantomData,
    })
}

impl<D: Decode<W>, const W: usize> Primitive<D, W> {
    /// Appends the values at `starts` if each is a valid value; else appends none. `read` returns `None` for
    /// all others.
    fn append_sound(&mut self, starts: &[u32], read: impl Fn(u32) -> Option<[u8; W]>) -> bool {
        let before = self.values.len();
        let mut sound = true;
        self.values.extend(starts.iter().map(|&start| {
            let Some(Ok(value)) = read(start).map(D::decode) else {
                sound = false;
                return Default::default();
            };
            value
        }));
        if sound {
            self.validity.append_n_non_nulls(starts.len());
        } else {
            self.values.truncate(before);
        }
        sound
    }

    /// Appends the values one by one. Returns true if some are NULL or do not fit.
    fn append_mixed(
        &mut self,
        starts: &[u32],
        read: impl Fn(u32) -> Option<Result<[u8; W], Misfit>>,
    ) -> bool {
        let Self { values, validity, faults, .. } = self;
        let mut mixed = false;
        values.extend(starts.iter().map(|&start| {
            match read(start).map(|bytes| bytes.and_then(D::decode)) {
                Some(Ok(value)) => {
                    validity.append_non_null();
                    return value;
                }
                Some(Err(misfit)) => faults.note(misfit),
                None => {}
            }
            mixed = true;
            validity.append_null();
            Default::default()
        }));
        mixed
    }
}

impl<D: Decode<W>, const W: usize> StoredBuilder for Primitive<D, W> {
    fn form(&self) -> StoredForm {
        StoredForm::Number(W)
    }

    fn append_stored(&mut self, values: Stored<'_>) {
        if self.mixed || !self.append_sound(values.starts, |start| values.number(start)) {
            self.mixed = self.append_mixed(values.starts, |start| values.number(start).map(Ok));
        }
    }
}

impl<D: Decode<W>, const W: usize> Builder for Primitive<D, W> {
    fn append(&mut self, fields: Fields<'_>) {
        if self.mixed || !self.append_sound(fields.starts, |start| fields.fixed(start)) {
            let read = |start| fields.get(start).map(|bytes| bytes.try_into().map_err(|_| WIDTH));
            self.mixed = self.append_mixed(fields.starts, read);
        }
    }

    fn stored(&mut self) -> Option<&mut dyn StoredBuilder> {
        Some(self)
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let capacity = self.values.len();
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(capacity));
        let array = PrimitiveArray::<D::Arrow>::try_new(ScalarBuffer::from(values), self.validity.finish())?;
        let array: ArrayRef = match (D::ZONE, D::Arrow::DATA_TYPE) {
            (Some(zone), DataType::Timestamp(unit, _)) => {
                Arc::new(array.with_data_type(DataType::Timestamp(unit, Some(zone.into()))))
            }
            _ => Arc::new(array),
        };
        Ok((array, std::mem::take(&mut self.faults)))
    }
}

struct Bool {
    values: BooleanBufferBuilder,
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of booleans.
pub(super) fn bool() -> Box<dyn Builder> {
    Box::new(Bool {
        values: BooleanBufferBuilder::new(0),
        validity: NullBufferBuilder::new(0),
        faults: Faults::default(),
    })
}

impl Builder for Bool {
    fn append(&mut self, fields: Fields<'_>) {
        for field in fields.iter() {
            let value = match field {
                Some([byte]) => Some(*byte != 0),
                Some(_) => {
                    self.faults.note(WIDTH);
                    None
                }
                None => None,
            };
            self.values.append(value.unwrap_or_default());
            self.validity.append(value.is_some());
        }
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let array = BooleanArray::new(self.values.finish(), self.validity.finish());
        Ok((Arc::new(array), std::mem::take(&mut self.faults)))
    }
}

struct Uuids {
    values: Vec<u8>,
    validity: NullBufferBuilder,
    faults: Faults,
}

/// A builder of UUIDs.
pub(super) fn uuid() -> Box<dyn Builder> {
    Box::new(Uuids { values: Vec::new(), validity: NullBufferBuilder::new(0), faults: Faults::default() })
}

impl Builder for Uuids {
    fn append(&mut self, fields: Fields<'_>) {
        self.values.reserve(16 * fields.starts.len());
        for field in fields.iter() {
            let value = field.and_then(|bytes| bytes.first_chunk::<16>().filter(|_| bytes.len() == 16));
            if field.is_some() && value.is_none() {
                self.faults.note(WIDTH);
            }
            self.values.extend_from_slice(value.unwrap_or(&[0; 16]));
            self.validity.append(value.is_some());
        }
    }

    fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let capacity = self.values.len();
        let rows = capacity / 16;
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(capacity));
        let array = FixedSizeBinaryArray::try_new_with_len(
            16,
            Buffer::from_vec(values),
            self.validity.finish(),
            rows,
        )?;
        Ok((Arc::new(array), std::mem::take(&mut self.faults)))
    }
}
