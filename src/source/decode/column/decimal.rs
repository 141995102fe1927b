//! Decimals from numerics: fields of a COPY, or as a heap stores them.

use arrow::array::ArrayRef;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Decimal256Type, i256};
use arrow::error::ArrowError;

use super::builder::StoredBuilder;
use super::each::Numbers;
use super::numeric::{FOREIGN, Numeric, POW10_64, POW10_128, small_decimal};
use super::stored_numeric::{send_numeric, small_stored};
use super::{Builder, Faults, Fields, Misfit, Stored, StoredForm};

/// A builder of exact decimals. If no decimal has this precision, no value fits.
pub(super) fn decimal(precision: u8, scale: i8) -> Box<dyn Builder> {
    let (digits, shift) = (usize::from(precision), i32::from(scale));
    let ty = DataType::Decimal128(precision, scale);
    let exact = move |field: &[u8]| Numeric::parse(field)?.to_i128(digits, shift);
    if digits <= 18 {
        let limit = POW10_64[digits];
        let sent = move |field: &[u8], window: &[u8]| small_decimal(field, window, limit, shift);
        let stored = move |value: &[u8], window: &[u8]| small_stored(value, window, limit, shift);
        return decimals::<Decimal128Type>(
            ty,
            move |field, window| sent(field, window).map(i128::from),
            move |value, window| stored(value, window).map(i128::from),
            exact,
        );
    }
    if digits < POW10_128.len() {
        return decimals::<Decimal128Type>(ty, |_, _| None, |_, _| None, exact);
    }
    let ten = i256::from_i128(10);
    let powers: Vec<i256> =
        std::iter::successors(Some(i256::ONE), |power| power.checked_mul(ten)).take(digits + 1).collect();
    let ty = DataType::Decimal256(precision, scale);
    let exact = move |field: &[u8]| Numeric::parse(field)?.to_i256(&powers, shift);
    decimals::<Decimal256Type>(ty, |_, _| None, |_, _| None, exact)
}

/// Reads numerics. `sent` and `stored` are short ways for fields of a COPY and for stored values, given the value
/// and its window (see [`Fields::window`]); they leave the value to `exact` by `None`.
struct Decimals<T: ArrowPrimitiveType, A, B, C> {
    sent: A,
    stored: B,
    exact: C,
    numbers: Numbers<T>,
    /// A stored value as a field.
    field: Vec<u8>,
}

fn decimals<T: ArrowPrimitiveType>(
    ty: DataType,
    sent: impl Fn(&[u8], &[u8]) -> Option<T::Native> + Send + 'static,
    stored: impl Fn(&[u8], &[u8]) -> Option<T::Native> + Send + 'static,
    exact: impl Fn(&[u8]) -> Result<T::Native, Misfit> + Send + 'static,
) -> Box<dyn Builder> {
    Box::new(Decimals::<T, _, _, _> { sent, stored, exact, numbers: Numbers::new(ty), field: Vec::new() })
}

impl<T, A, B, C> StoredBuilder for Decimals<T, A, B, C>
where
    T: ArrowPrimitiveType,
    B: Fn(&[u8], &[u8]) -> Option<T::Native>,
    C: Fn(&[u8]) -> Result<T::Native, Misfit>,
{
    fn form(&self) -> StoredForm {
        StoredForm::Numeric
    }

    fn append_stored(&mut self, values: Stored<'_>) {
        let Self { stored, exact, numbers, field, .. } = self;
        numbers.append(values.starts, |start| {
            let (value, window) = values.window(start)?;
            let short = stored(value, window).map(Ok);
            Some(short.unwrap_or_else(|| {
                field.clear();
                send_numeric(value, field).ok_or(FOREIGN)?;
                exact(field)
            }))
        });
    }
}

impl<T, A, B, C> Builder for Decimals<T, A, B, C>
where
    T: ArrowPrimitiveType,
    A: Fn(&[u8], &[u8]) -> Option<T::Native> + Send,
    B: Fn(&[u8], &[u8]) -> Option<T::Native> + Send,
    C: Fn(&[u8]) -> Result<T::Native, Misfit> + Send,
{
    fn append(&mut self, fields: Fields<'_>) {
        let Self { sent, exact, numbers, .. } = self;
        numbers.append(fields.starts, |start| {
            let (field, window) = fields.window(start)?;
            Some(sent(field, window).map_or_else(|| exact(field), Ok))
        });
    }

    fn stored(&mut self) -> Option<&mut dyn StoredBuilder> {
        Some(self)
    }

    fn is_unfit(&self) -> bool {
        self.numbers.is_unfit()
    }

    fn finish(&mut self) -> Result<(ArrayRef, Faults), ArrowError> {
        self.numbers.finish()
    }
}
