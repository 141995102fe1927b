//! Builders for numbers whose fields have different lengths.

use std::sync::Arc;

use arrow::array::{ArrayRef, NullBufferBuilder, PrimitiveArray};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use arrow::error::ArrowError;

use super::{Builder, Faults, Fields, Misfit};

/// The numbers of a column.
pub(super) struct Numbers<T: ArrowPrimitiveType> {
    ty: DataType,
    values: Vec<T::Native>,
    validity: NullBufferBuilder,
    faults: Faults,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    pub(super) fn new(ty: DataType) -> Self {
        let validity = NullBufferBuilder::new(0);
        Self { ty, values: Vec::new(), validity, faults: Faults::default() }
    }

    /// Appends the values at `starts`. `read` returns a value; `None` for NULL.
    pub(super) fn append(
        &mut self,
        starts: &[u32],
        mut read: impl FnMut(u32) -> Option<Result<T::Native, Misfit>>,
    ) {
        let Self { values, validity, faults, .. } = self;
        // Number of valid rows that `validity` does not contain yet.
        let mut run = 0;
        values.extend(starts.iter().map(|&start| {
            match read(start) {
                Some(Ok(value)) => {
                    run += 1;
                    return value;
                }
                Some(Err(misfit)) => faults.note(misfit),
                None => {}
            }
            validity.append_n_non_nulls(run);
            validity.append_null();
            run = 0;
            Default::default()
        }));
        validity.append_n_non_nulls(run);
    }

    pub(super) fn is_unfit(&self) -> bool {
        self.faults.unfit.is_some()
    }

    pub(super) fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        let capacity = self.values.len();
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(capacity));
        let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(values), self.validity.finish())?;
        let array = array.with_data_type(self.ty.clone());
        Ok((Arc::new(array), std::mem::take(&mut self.faults)))
    }
}

/// Reads each field with a function of the field and its window (see [`Fields::window`]).
struct Each<T: ArrowPrimitiveType, F> {
    read: F,
    numbers: Numbers<T>,
}

/// A builder that reads each field by `read`.
pub(super) fn each<T, F>(ty: DataType, read: F) -> Box<dyn Builder>
where
    T: ArrowPrimitiveType,
    F: FnMut(&[u8], &[u8]) -> Result<T::Native, Misfit> + Send + 'static,
{
    Box::new(Each::<T, F> { read, numbers: Numbers::new(ty) })
}

impl<T, F> Builder for Each<T, F>
where
    T: ArrowPrimitiveType,
    F: FnMut(&[u8], &[u8]) -> Result<T::Native, Misfit> + Send,
{
    fn append(&mut self, fields: Fields<'_>) {
        let Self { read, numbers } = self;
        numbers
            .append(fields.starts, |start| fields.window(start).map(|(field, window)| read(field, window)));
    }

    fn is_unfit(&self) -> bool {
        self.numbers.is_unfit()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        self.numbers.finish()
    }
}
