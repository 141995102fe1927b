//! Values of any length: text, JSON, bytes.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, GenericByteArray, NullBufferBuilder, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{BinaryType, ByteArrayType, Utf8Type};
use arrow::error::ArrowError;

use super::builder::StoredBuilder;
use super::{Builder, Faults, Fields, Stored, StoredForm};

/// Short values are copied as a window of this many bytes and then cut to their length. That takes a few
/// processor moves instead of a function call.
const WINDOW: usize = 64;

/// Which bytes of a field belong to the value.
trait Payload: Send + 'static {
    type Arrow: ByteArrayType<Offset = i32>;

    /// Number of bytes at the start of a field that do not belong to the value.
    #[inline]
    fn prefix(_field: &[u8]) -> usize {
        0
    }
}

struct Text;
struct Json;
struct Bytes;

impl Payload for Text {
    type Arrow = Utf8Type;
}

impl Payload for Json {
    type Arrow = Utf8Type;

    /// The binary form of jsonb begins with its version, 1. No JSON text can begin with that byte.
    #[inline]
    fn prefix(field: &[u8]) -> usize {
        usize::from(field.first() == Some(&1))
    }
}

impl Payload for Bytes {
    type Arrow = BinaryType;
}

struct Variable<P> {
    values: Vec<u8>,
    /// Ends of the values, after a leading 0.
    offsets: Vec<i32>,
    validity: NullBufferBuilder,
    payload: PhantomData<P>,
}

fn variable<P: Payload>() -> Box<dyn Builder> {
    Box::new(Variable::<P> {
        values: Vec::new(),
        offsets: vec![0],
        validity: NullBufferBuilder::new(0),
        payload: PhantomData,
    })
}

/// A builder of text.
pub(super) fn text() -> Box<dyn Builder> {
    variable::<Text>()
}

/// A builder of JSON text from `json` or `jsonb`.
pub(super) fn json() -> Box<dyn Builder> {
    variable::<Json>()
}

/// A builder of byte strings.
pub(super) fn bytes() -> Box<dyn Builder> {
    variable::<Bytes>()
}

impl<P: Payload> Variable<P> {
    /// Appends the values at `starts`. `read` returns a value and its window (see [`Fields::window`]).
    fn append_all<'a>(&mut self, starts: &[u32], read: impl Fn(u32) -> Option<(&'a [u8], &'a [u8])>) {
        self.offsets.reserve(starts.len());
        // Number of valid rows that `validity` does not contain yet.
        let mut run = 0;
        for &start in starts {
            match read(start) {
                Some((field, window)) => {
                    let prefix = P::prefix(field);
                    append_value(&mut self.values, &field[prefix..], &window[prefix..]);
                    run += 1;
                }
                None => {
                    self.validity.append_n_non_nulls(run);
                    self.validity.append_null();
                    run = 0;
                }
            }
            // If an offset overflows i32, it gets smaller than the one before, and `finish` refuses that.
            self.offsets.push(self.values.len() as i32);
        }
        self.validity.append_n_non_nulls(run);
    }
}

impl<P: Payload> StoredBuilder for Variable<P> {
    fn form(&self) -> StoredForm {
        StoredForm::Bytes
    }

    fn append_stored(&mut self, values: Stored<'_>) {
        self.append_all(values.starts, |start| values.window(start));
    }
}

impl<P: Payload> Builder for Variable<P> {
    fn append(&mut self, fields: Fields<'_>) {
        self.append_all(fields.starts, |start| fields.window(start));
    }

    fn stored(&mut self) -> Option<&mut dyn StoredBuilder> {
        Some(self)
    }

    fn is_unfit(&self) -> bool {
        false
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let (bytes, rows) = (self.values.len(), self.offsets.len());
        if i32::try_from(bytes).is_err() {
            return Err(ArrowError::OffsetOverflowError(bytes));
        }
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(bytes.min(1 << 20)));
        let mut next = Vec::with_capacity(rows);
        next.push(0);
        let offsets = std::mem::replace(&mut self.offsets, next);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let values = Buffer::from_vec(values);
        let validity = self.validity.finish();
        let mut faults = Faults::default();
        let array: ArrayRef =
            match GenericByteArray::<P::Arrow>::try_new(offsets.clone(), values.clone(), validity.clone()) {
                Ok(array) => Arc::new(array),
                Err(_) => {
                    faults.not_utf8 = true;
                    Arc::new(only_utf8(&offsets, &values, validity.as_ref()))
                }
            };
        Ok((array, faults))
    }
}

/// Appends a value; `window` begins with it.
#[inline]
fn append_value(values: &mut Vec<u8>, value: &[u8], window: &[u8]) {
    match window.first_chunk::<WINDOW>() {
        Some(window) if value.len() <= WINDOW => {
            let end = values.len() + value.len();
            values.extend_from_slice(window);
            values.truncate(end);
        }
        _ => values.extend_from_slice(value),
    }
}

/// Replaces values that are not UTF-8 by NULL.
fn only_utf8(offsets: &OffsetBuffer<i32>, values: &[u8], validity: Option<&NullBuffer>) -> StringArray {
    offsets
        .windows(2)
        .enumerate()
        .map(|(row, ends)| {
            let value = &values[ends[0] as usize..ends[1] as usize];
            std::str::from_utf8(value).ok().filter(|_| validity.is_none_or(|v| v.is_valid(row)))
        })
        .collect()
}
