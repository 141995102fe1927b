//! Encodes whole numbers: with a dictionary, as differences, or as plain numbers.

use std::ops::Range;

use arrow::array::{Array, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use parquet::basic::Encoding;

use super::bound::{Bound, Bounds};
use super::keys::Keys;
use super::near::Near;
use super::numbers::Numbers;
use super::pack::width_of;
use super::table::{Lookup, Table};
use super::values::{Encoded, Values, take_runs};

/// A dictionary is compared with the other encodings after a page of which more than one number in so many is
/// new in it.
const MANY_NEW: usize = 4;

/// Encodes signed numbers of 32 or 64 bits.
pub(super) struct Whole {
    is_int32: bool,
    dictionary: Option<Dictionary>,
    /// Numbers of the current page, if it has no dictionary keys.
    numbers: Numbers,
    /// Bounds of the page. While `min` is greater than `max`, the page has no number.
    min: i64,
    max: i64,
    has_statistics: bool,
}

/// The numbers of the dictionary, and their keys.
struct Dictionary {
    keys: Keys,
    near: Near,
    numbers: Vec<i64>,
    /// Number of entries that the finished pages need.
    finished: usize,
    /// Largest number of entries.
    limit: usize,
}

/// Whether arrays of this type are signed numbers that Parquet stores in 32 or 64 bits.
pub(super) fn is_signed_whole(ty: &DataType) -> bool {
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

impl Whole {
    /// A column without values. With `dictionary_bytes` it has a dictionary of at most this size.
    pub(super) fn new(
        is_int32: bool,
        dictionary_bytes: Option<usize>,
        has_differences: bool,
        has_statistics: bool,
    ) -> Self {
        let limit = |bytes| bytes / if is_int32 { size_of::<i32>() } else { size_of::<i64>() };
        let dictionary = dictionary_bytes.map(|bytes| Dictionary {
            keys: Keys::new(),
            near: Near::default(),
            numbers: Vec::new(),
            finished: 0,
            limit: limit(bytes),
        });
        Self {
            is_int32,
            dictionary,
            numbers: Numbers::new(is_int32, has_differences),
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
            let (mut min, mut max) = (self.min, self.max);
            let include = |number: i64| {
                min = min.min(number);
                max = max.max(number);
                number
            };
            let numbers = numbers.iter().map(|&number| widen(number));
            let taken = match &mut self.dictionary {
                Some(dictionary) if dictionary.keys.table.is_some() => dictionary.take(numbers, include),
                _ => {
                    let count = numbers.len();
                    self.numbers.extend(numbers.map(include));
                    count
                }
            };
            (self.min, self.max) = (min, max);
            taken
        })
    }

    /// Appends the numbers of a page that has dictionary keys, as keys or in the form that replaces them.
    /// `None` if the page has no keys.
    fn finish_keys(&mut self, is_last: bool, body: &mut Vec<u8>) -> Option<Encoding> {
        let dictionary = self.dictionary.as_mut().filter(|dictionary| dictionary.keys.has_page())?;
        let (entries, page) = (&dictionary.numbers, &dictionary.keys.page);
        let new = entries.len() - dictionary.finished;
        if new > page.len() / MANY_NEW {
            let width = if self.is_int32 { size_of::<i32>() } else { size_of::<i64>() };
            let with_keys = new * width + page.len() * width_of(entries.len() as u64 - 1) / 8;
            // Later pages may need the new entries, too, and pay for a part of them, unless nearly all numbers
            // are new.
            let share = if is_last || new > page.len() / 8 * 7 { 1 } else { 2 };
            let start = body.len();
            self.numbers.extend(page.iter().map(|&key| entries[key as usize]));
            let encoding = self.numbers.finish(body);
            if (body.len() - start) * share < with_keys {
                dictionary.give_up();
                return Some(encoding);
            }
            body.truncate(start);
            self.numbers.forget();
        }
        dictionary.finished = entries.len();
        dictionary.keys.finish_page(entries.len(), body);
        Some(Encoding::RLE_DICTIONARY)
    }

    fn take_bounds(&mut self) -> Option<Bounds> {
        let (min, max) =
            (std::mem::replace(&mut self.min, i64::MAX), std::mem::replace(&mut self.max, i64::MIN));
        let bound = |number| if self.is_int32 { Bound::Int32(number as i32) } else { Bound::Int64(number) };
        (self.has_statistics && min <= max).then(|| Bounds { min: bound(min), max: bound(max) })
    }
}

impl Dictionary {
    /// Takes numbers until the next one has no room in the dictionary.
    fn take(
        &mut self,
        numbers: impl ExactSizeIterator<Item = i64>,
        mut include: impl FnMut(i64) -> i64,
    ) -> usize {
        let page = &mut self.keys.page;
        let Some(table) = &mut self.keys.table else { return 0 };
        let before = page.len();
        page.resize(before + numbers.len(), 0);
        let mut taken = 0;
        for (to, number) in page[before..].iter_mut().zip(numbers) {
            let key = match self.near.get(number) {
                Some(key) => Some(key),
                None => find_far(table, &mut self.near, &mut self.numbers, self.limit, number),
            };
            let Some(key) = key else {
                self.keys.table = None;
                self.near = Near::default();
                break;
            };
            *to = key;
            include(number);
            taken += 1;
        }
        page.truncate(before + taken);
        taken
    }

    /// Ends the dictionary without the current page.
    fn give_up(&mut self) {
        self.numbers.truncate(self.finished);
        self.numbers.shrink_to_fit();
        self.near = Near::default();
        (self.keys.table, self.keys.page) = (None, Vec::new());
    }
}

/// The key of a number that `near` does not know. `None` if the dictionary has no room for it.
fn find_far(
    table: &mut Table,
    near: &mut Near,
    numbers: &mut Vec<i64>,
    limit: usize,
    number: i64,
) -> Option<u32> {
    let key = match table.find(table.hash(number as u64), |key| numbers[key as usize] == number) {
        Lookup::Key(key) => key,
        Lookup::Free(index) if numbers.len() < limit => {
            numbers.push(number);
            table.insert(index, |key| numbers[key as usize] as u64)
        }
        Lookup::Free(_) => return None,
    };
    near.learn(number, key, numbers.len());
    Some(key)
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
            // A decimal of at most 18 digits, see `is_signed_whole`.
            _ => self.take((array.as_primitive::<Decimal128Type>().values(), nulls), rows, |n| n as i64),
        }
    }

    fn finish_page(&mut self, is_last: bool, body: &mut Vec<u8>) -> Encoded {
        let encoding = self.finish_keys(is_last, body).unwrap_or_else(|| self.numbers.finish(body));
        Encoded { encoding, bounds: self.take_bounds(), text_bytes: None }
    }

    fn take_dictionary(&mut self) -> Option<(Vec<u8>, usize)> {
        let Dictionary { numbers, .. } = self.dictionary.take().filter(|d| d.keys.is_used)?;
        let plain = if self.is_int32 {
            numbers.iter().flat_map(|&number| (number as i32).to_le_bytes()).collect()
        } else {
            numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
        };
        Some((plain, numbers.len()))
    }

    fn encoded_bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(0, |dictionary| {
            let values = dictionary.numbers.len();
            values * if self.is_int32 { size_of::<i32>() } else { size_of::<i64>() }
                + dictionary.keys.encoded_bytes(values)
        });
        dictionary + self.numbers.encoded_bytes()
    }

    fn memory_bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(0, |dictionary| {
            let numbers = dictionary.numbers.capacity() * size_of::<i64>();
            dictionary.keys.memory_bytes() + dictionary.near.memory_bytes() + numbers
        });
        dictionary + self.numbers.memory_bytes()
    }
}
