//! Whole numbers: in a dictionary, or as differences.

use std::ops::Range;

use arrow::array::{Array, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use parquet::basic::Encoding;

use super::bound::{Bound, Bounds};
use super::delta::Delta;
use super::pack::{hybrid, width_of};
use super::table::{Found, Table};
use super::values::{Page, Values, take_runs};

/// Encodes signed numbers of 32 or 64 bits.
pub(super) struct Whole {
    is_int32: bool,
    dictionary: Option<Dictionary>,
    /// Keys of the page under way.
    keys: Vec<u32>,
    /// Its numbers, where there is no dictionary any more.
    delta: Delta,
    /// Its bounds; none have been seen while the minimum is the greater one.
    min: i64,
    max: i64,
    has_statistics: bool,
}

/// The numbers that have keys.
struct Dictionary {
    /// Gone when the dictionary has been given up.
    table: Option<Table>,
    /// Whether a page has keys.
    is_used: bool,
    numbers: Vec<i64>,
    /// Numbers that it may have.
    limit: usize,
}

impl Whole {
    /// Whether arrays of this type are numbers that are encoded here.
    pub(super) fn takes(ty: &DataType) -> bool {
        match ty {
            DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(TimeUnit::Microsecond, _) => true,
            DataType::Decimal128(precision, _) => *precision <= 18,
            _ => false,
        }
    }

    /// A column without values; with a dictionary of at most so many bytes, if with one.
    pub(super) fn new(is_int32: bool, dictionary_bytes: Option<usize>, has_statistics: bool) -> Self {
        let width = if is_int32 { 4 } else { 8 };
        let dictionary = dictionary_bytes.map(|bytes| Dictionary {
            table: Some(Table::new()),
            is_used: false,
            numbers: Vec::new(),
            limit: bytes / width,
        });
        Self {
            is_int32,
            dictionary,
            keys: Vec::new(),
            delta: Delta::new(is_int32),
            min: i64::MAX,
            max: i64::MIN,
            has_statistics,
        }
    }

    fn take<N: Copy>(
        &mut self,
        (numbers, nulls): (&[N], Option<&NullBuffer>),
        rows: Range<usize>,
        widen: impl Fn(N) -> i64 + Copy,
    ) -> usize {
        take_runs(nulls, rows, |run| {
            let numbers = &numbers[run];
            let taken = match &mut self.dictionary {
                Some(Dictionary { table: Some(table), numbers: known, limit, .. }) => {
                    self.keys.reserve(numbers.len());
                    let keys = numbers.iter().map_while(|&n| key(table, known, *limit, widen(n)));
                    let before = self.keys.len();
                    self.keys.extend(keys);
                    self.keys.len() - before
                }
                _ => {
                    numbers.iter().for_each(|&number| self.delta.push(widen(number)));
                    numbers.len()
                }
            };
            for &number in &numbers[..taken] {
                let number = widen(number);
                self.min = self.min.min(number);
                self.max = self.max.max(number);
            }
            if let Some(dictionary) = self.dictionary.as_mut().filter(|_| taken < numbers.len()) {
                dictionary.table = None;
            }
            taken
        })
    }

    fn bounds(&self) -> Option<Bounds> {
        let bound = |number| {
            if self.is_int32 { Bound::Int32(number as i32) } else { Bound::Int64(number) }
        };
        (self.has_statistics && self.min <= self.max)
            .then(|| Bounds { min: bound(self.min), max: bound(self.max) })
    }
}

/// The key of a number; none where the dictionary is full.
#[inline]
fn key(table: &mut Table, numbers: &mut Vec<i64>, limit: usize, number: i64) -> Option<u32> {
    match table.find(number as u64, 0, |_| true) {
        Found::Key(key) => Some(key),
        Found::Free(index) if numbers.len() < limit => {
            numbers.push(number);
            Some(table.insert(index, number as u64, 0))
        }
        Found::Free(_) | Found::Crowded => None,
    }
}

impl Values for Whole {
    fn append(&mut self, array: &dyn Array, rows: Range<usize>) -> usize {
        let nulls = array.nulls();
        match array.data_type() {
            DataType::Int16 => {
                self.take((array.as_primitive::<Int16Type>().values(), nulls), rows, i64::from)
            }
            DataType::Int32 => {
                self.take((array.as_primitive::<Int32Type>().values(), nulls), rows, i64::from)
            }
            DataType::Date32 => {
                self.take((array.as_primitive::<Date32Type>().values(), nulls), rows, i64::from)
            }
            DataType::Int64 => self.take((array.as_primitive::<Int64Type>().values(), nulls), rows, |n| n),
            DataType::Time64(_) => {
                self.take((array.as_primitive::<Time64MicrosecondType>().values(), nulls), rows, |n| n)
            }
            DataType::Timestamp(..) => {
                self.take((array.as_primitive::<TimestampMicrosecondType>().values(), nulls), rows, |n| n)
            }
            // No more than 18 digits: see `takes`.
            _ => self.take((array.as_primitive::<Decimal128Type>().values(), nulls), rows, |n| n as i64),
        }
    }

    fn finish_page(&mut self, body: &mut Vec<u8>) -> Page {
        let bounds = self.bounds();
        (self.min, self.max) = (i64::MAX, i64::MIN);
        let encoding = match &mut self.dictionary {
            Some(dictionary) if dictionary.table.is_some() || !self.keys.is_empty() => {
                dictionary.is_used = true;
                let width = width_of(dictionary.numbers.len().saturating_sub(1) as u64);
                body.push(width as u8);
                hybrid(&self.keys, width, body);
                self.keys.clear();
                Encoding::RLE_DICTIONARY
            }
            _ => {
                self.delta.finish(body);
                Encoding::DELTA_BINARY_PACKED
            }
        };
        Page { encoding, bounds, text_bytes: None }
    }

    fn take_dictionary(&mut self) -> Option<(Vec<u8>, usize)> {
        let numbers = self.dictionary.take().filter(|dictionary| dictionary.is_used)?.numbers;
        let mut plain = Vec::with_capacity(numbers.len() * 8);
        for number in &numbers {
            let bytes = number.to_le_bytes();
            plain.extend_from_slice(if self.is_int32 { &bytes[..4] } else { &bytes });
        }
        Some((plain, numbers.len()))
    }

    fn encoded_bytes(&self) -> usize {
        let (dictionary, width) = self.dictionary.as_ref().map_or((0, 0), |d| {
            (d.numbers.len() * if self.is_int32 { 4 } else { 8 }, width_of(d.numbers.len() as u64))
        });
        dictionary + self.keys.len() * width / 8 + self.delta.encoded_bytes()
    }

    fn memory_bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(0, |dictionary| {
            dictionary.table.as_ref().map_or(0, Table::memory_bytes) + dictionary.numbers.capacity() * 8
        });
        dictionary + self.keys.capacity() * 4 + self.delta.memory_bytes()
    }
}
