//! Texts and byte strings: in a dictionary, or plainly.

use std::ops::Range;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use parquet::basic::Encoding;

use super::bound::{Bound, Bounds};
use super::pack::{hybrid, width_of};
use super::table::{Found, Table, mix};
use super::values::{Page, Values, take_runs};

/// Short values are copied as a window of so many bytes and then cut to their
/// length: a few moves of the processor instead of a call.
const WINDOW: usize = 64;
/// Bytes of the length that stands before a plain value.
const LENGTH: usize = 4;

/// Encodes values of any length.
pub(super) struct Text {
    dictionary: Option<Dictionary>,
    /// Keys of the page under way.
    keys: Vec<u32>,
    /// Its values, where there is no dictionary any more.
    plain: Vec<u8>,
    /// Bounds of the plain values.
    extremes: Extremes,
    /// Bytes of all values of the page.
    text_bytes: u64,
    /// Bytes after which plain pages end.
    page_bytes: usize,
    has_statistics: bool,
}

impl Text {
    /// A column without values; with a dictionary of at most so many bytes, if with one.
    pub(super) fn new(dictionary_bytes: Option<usize>, page_bytes: usize, has_statistics: bool) -> Self {
        let dictionary = dictionary_bytes.map(|limit| Dictionary {
            table: Some(Table::new()),
            is_used: false,
            plain: Vec::new(),
            starts: Vec::new(),
            limit,
        });
        Self {
            dictionary,
            keys: Vec::new(),
            plain: Vec::new(),
            extremes: Extremes::default(),
            text_bytes: 0,
            page_bytes,
            has_statistics,
        }
    }

    /// Takes values as keys until one finds no room in the dictionary.
    fn take_keys(&mut self, data: &[u8], ends: &[i32]) -> usize {
        let Some(dictionary) = &mut self.dictionary else { return 0 };
        self.keys.reserve(ends.len() - 1);
        for (index, pair) in ends.windows(2).enumerate() {
            let (start, end) = (pair[0] as usize, pair[1] as usize);
            let Some(key) = dictionary.key(data, start, end) else {
                dictionary.table = None;
                return index;
            };
            self.keys.push(key);
            self.text_bytes += (end - start) as u64;
        }
        ends.len() - 1
    }

    /// Takes values until one finds no room in the page.
    fn take_plain(&mut self, data: &[u8], ends: &[i32]) -> usize {
        for (index, pair) in ends.windows(2).enumerate() {
            let (start, end) = (pair[0] as usize, pair[1] as usize);
            let value = &data[start..end];
            if self.plain.len() + LENGTH + value.len() > self.page_bytes && !self.plain.is_empty() {
                return index;
            }
            self.plain.extend_from_slice(&(value.len() as u32).to_le_bytes());
            match data[start..].first_chunk::<WINDOW>() {
                Some(window) if value.len() <= WINDOW => {
                    let end = self.plain.len() + value.len();
                    self.plain.extend_from_slice(window);
                    self.plain.truncate(end);
                }
                _ => self.plain.extend_from_slice(value),
            }
            if self.has_statistics {
                self.extremes.include(first_word(data, start, end).swap_bytes(), value);
            }
            self.text_bytes += value.len() as u64;
        }
        ends.len() - 1
    }
}

impl Values for Text {
    fn append(&mut self, array: &dyn Array, rows: Range<usize>) -> usize {
        let (data, ends) = match array.data_type() {
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                (array.value_data(), array.value_offsets())
            }
            _ => {
                let array = array.as_binary::<i32>();
                (array.value_data(), array.value_offsets())
            }
        };
        take_runs(array.nulls(), rows, |run| {
            let ends = &ends[run.start..=run.end];
            if self.dictionary.as_ref().is_some_and(|dictionary| dictionary.table.is_some()) {
                self.take_keys(data, ends)
            } else {
                self.take_plain(data, ends)
            }
        })
    }

    fn finish_page(&mut self, body: &mut Vec<u8>) -> Page {
        let text_bytes = Some(std::mem::take(&mut self.text_bytes));
        if let Some(dictionary) =
            self.dictionary.as_mut().filter(|d| d.table.is_some() || !self.keys.is_empty())
        {
            dictionary.is_used = true;
            let width = width_of(dictionary.starts.len().saturating_sub(1) as u64);
            body.push(width as u8);
            hybrid(&self.keys, width, body);
            let bounds = self.has_statistics.then(|| dictionary.bounds(&self.keys)).flatten();
            self.keys.clear();
            return Page { encoding: Encoding::RLE_DICTIONARY, bounds, text_bytes };
        }
        let bounds = self.extremes.take();
        if body.is_empty() {
            std::mem::swap(body, &mut self.plain);
        } else {
            body.extend_from_slice(&self.plain);
        }
        self.plain.clear();
        Page { encoding: Encoding::PLAIN, bounds, text_bytes }
    }

    fn take_dictionary(&mut self) -> Option<(Vec<u8>, usize)> {
        let dictionary = self.dictionary.take().filter(|dictionary| dictionary.is_used)?;
        Some((dictionary.plain, dictionary.starts.len()))
    }

    fn encoded_bytes(&self) -> usize {
        let (bytes, width) =
            self.dictionary.as_ref().map_or((0, 0), |d| (d.plain.len(), width_of(d.starts.len() as u64)));
        bytes + self.keys.len() * width / 8 + self.plain.len()
    }

    fn memory_bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(0, |dictionary| {
            let table = dictionary.table.as_ref().map_or(0, Table::memory_bytes);
            table + dictionary.plain.capacity() + dictionary.starts.capacity() * 4
        });
        dictionary + self.keys.capacity() * 4 + self.plain.capacity()
    }
}

/// The values that have keys.
struct Dictionary {
    /// Gone when the dictionary has been given up.
    table: Option<Table>,
    /// Whether a page has keys.
    is_used: bool,
    /// The values as the dictionary's page holds them.
    plain: Vec<u8>,
    /// Where they begin there.
    starts: Vec<u32>,
    /// Bytes that the page may have.
    limit: usize,
}

impl Dictionary {
    /// The key of a value; none where the dictionary is full.
    #[inline]
    fn key(&mut self, data: &[u8], start: usize, end: usize) -> Option<u32> {
        let value = &data[start..end];
        let length = value.len() as u32;
        let table = self.table.as_mut()?;
        let (found, tag) = if value.len() <= 8 {
            // The word and the length are the value.
            let tag = first_word(data, start, end);
            (table.find(tag, length, |_| true), tag)
        } else {
            let tag = hash(value);
            let is_same = |key: u32| value_at(&self.plain, self.starts[key as usize]) == value;
            (table.find(tag, length, is_same), tag)
        };
        match found {
            Found::Key(key) => Some(key),
            Found::Free(index) if self.plain.len() + LENGTH + value.len() <= self.limit => {
                self.starts.push(self.plain.len() as u32);
                self.plain.extend_from_slice(&length.to_le_bytes());
                self.plain.extend_from_slice(value);
                Some(table.insert(index, tag, length))
            }
            Found::Free(_) | Found::Crowded => None,
        }
    }

    /// The least and the greatest value of a page with these keys.
    fn bounds(&self, keys: &[u32]) -> Option<Bounds> {
        let mut is_there = vec![false; self.starts.len()];
        keys.iter().for_each(|&key| is_there[key as usize] = true);
        let mut values = self
            .starts
            .iter()
            .zip(&is_there)
            .filter(|there| *there.1)
            .map(|(&at, _)| value_at(&self.plain, at));
        let first = values.next()?;
        let (min, max) = values.fold((first, first), |(min, max), value| (min.min(value), max.max(value)));
        Some(Bounds { min: Bound::Text(min.to_vec()), max: Bound::Text(max.to_vec()) })
    }
}

/// The value that begins here in a dictionary's page.
#[inline]
fn value_at(plain: &[u8], at: u32) -> &[u8] {
    let (length, values) = plain[at as usize..].split_first_chunk::<LENGTH>().expect("a key has a value");
    &values[..u32::from_le_bytes(*length) as usize]
}

/// The first eight bytes of a value, zeros after its end.
#[inline]
fn first_word(data: &[u8], start: usize, end: usize) -> u64 {
    let length = end - start;
    let Some(word) = data[start..].first_chunk::<8>() else {
        let mut word = [0; 8];
        word[..length].copy_from_slice(&data[start..end]);
        return u64::from_le_bytes(word);
    };
    let word = u64::from_le_bytes(*word);
    if length < 8 { word & ((1 << (length * 8)) - 1) } else { word }
}

/// Hash of more than eight bytes.
#[inline]
fn hash(value: &[u8]) -> u64 {
    let (words, _) = value.as_chunks::<8>();
    let last = value.last_chunk::<8>().map_or(0, |last| u64::from_le_bytes(*last));
    words.iter().fold(last, |hash, word| mix(hash.rotate_left(23) ^ u64::from_le_bytes(*word)))
}

/// The least and the greatest of the plain values of a page, and their first
/// words: most values differ from them there already.
#[derive(Default)]
struct Extremes {
    found: bool,
    min_word: u64,
    min: Vec<u8>,
    max_word: u64,
    max: Vec<u8>,
}

impl Extremes {
    /// `word` has the first eight bytes of the value, the first of them highest.
    #[inline]
    fn include(&mut self, word: u64, value: &[u8]) {
        if !self.found || word <= self.min_word && (word < self.min_word || value < &self.min[..]) {
            self.min_word = word;
            self.min.clear();
            self.min.extend_from_slice(value);
        }
        if !self.found || word >= self.max_word && (word > self.max_word || value > &self.max[..]) {
            self.max_word = word;
            self.max.clear();
            self.max.extend_from_slice(value);
        }
        self.found = true;
    }

    fn take(&mut self) -> Option<Bounds> {
        let Self { found, min, max, .. } = std::mem::take(self);
        found.then_some(Bounds { min: Bound::Text(min), max: Bound::Text(max) })
    }
}
