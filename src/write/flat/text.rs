//! Encodes texts and byte strings: with a dictionary, or as plain values.

use std::ops::Range;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use parquet::basic::Encoding;

use super::bound::{Bound, Bounds, Cut};
use super::keys::Keys;
use super::table::{Lookup, mix};
use super::values::{Encoded, Values, take_runs};
use crate::write::compressor::KEEP_BYTES;

/// Short values are copied as a window of this many bytes and then cut to their length: this takes a few
/// instructions instead of a call.
const WINDOW: usize = 64;
/// Size of the length in front of a plain value, in bytes.
const LENGTH_BYTES: usize = 4;

/// Encodes values of any length.
pub(super) struct Text {
    dictionary: Option<Dictionary>,
    /// Values of the current page, if it has no dictionary keys.
    plain: Vec<u8>,
    /// Bounds of the plain values.
    extremes: Extremes,
    /// Size of all values of the page, in bytes.
    text_bytes: u64,
    /// A plain page ends at this size.
    page_bytes: usize,
    has_statistics: bool,
}

impl Text {
    /// A column without values. With `dictionary_bytes` it has a dictionary of at most this size.
    pub(super) fn new(dictionary_bytes: Option<usize>, page_bytes: usize, has_statistics: bool) -> Self {
        let dictionary = dictionary_bytes.map(|limit| Dictionary {
            keys: Keys::new(),
            plain: Vec::new(),
            entries: Vec::new(),
            limit,
        });
        Self {
            dictionary,
            plain: Vec::new(),
            extremes: Extremes::default(),
            text_bytes: 0,
            page_bytes,
            has_statistics,
        }
    }

    /// Takes values until the next one has no room in the page.
    fn take_plain(&mut self, data: &[u8], offsets: &[i32]) -> usize {
        for (index, ends) in offsets.windows(2).enumerate() {
            let (start, end) = (ends[0] as usize, ends[1] as usize);
            let value = &data[start..end];
            if self.plain.len() + LENGTH_BYTES + value.len() > self.page_bytes && !self.plain.is_empty() {
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
        offsets.len() - 1
    }
}

impl Values for Text {
    fn append(&mut self, array: &dyn Array, rows: Range<usize>) -> usize {
        let (data, offsets) = match array.data_type() {
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
            let offsets = &offsets[run.start..=run.end];
            match &mut self.dictionary {
                Some(dictionary) if dictionary.keys.table.is_some() => {
                    let taken = dictionary.take(data, offsets);
                    self.text_bytes += (offsets[taken] - offsets[0]) as u64;
                    taken
                }
                _ => self.take_plain(data, offsets),
            }
        })
    }

    fn finish_page(&mut self, _is_last: bool, body: &mut Vec<u8>) -> Encoded {
        let text_bytes = Some(std::mem::take(&mut self.text_bytes));
        if let Some(dictionary) = self.dictionary.as_mut().filter(|dictionary| dictionary.keys.has_page()) {
            let bounds = self.has_statistics.then(|| dictionary.bounds()).flatten();
            dictionary.keys.finish_page(dictionary.entries.len(), body);
            return Encoded { encoding: Encoding::RLE_DICTIONARY, bounds, text_bytes };
        }
        body.extend_from_slice(&self.plain);
        self.plain.clear();
        self.plain.shrink_to(KEEP_BYTES);
        Encoded { encoding: Encoding::PLAIN, bounds: self.extremes.take(), text_bytes }
    }

    fn take_dictionary(&mut self) -> Option<(Vec<u8>, usize)> {
        let dictionary = self.dictionary.take().filter(|dictionary| dictionary.keys.is_used)?;
        Some((dictionary.plain, dictionary.entries.len()))
    }

    fn encoded_bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref();
        self.plain.len() + dictionary.map_or(0, |d| d.plain.len() + d.keys.encoded_bytes(d.entries.len()))
    }

    fn memory_bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(0, |dictionary| {
            let entries = dictionary.entries.capacity() * size_of::<Entry>();
            dictionary.keys.memory_bytes() + dictionary.plain.capacity() + entries
        });
        dictionary + self.plain.capacity()
    }
}

/// The values of the dictionary, and their keys.
struct Dictionary {
    keys: Keys,
    entries: Vec<Entry>,
    /// The values in the form of the dictionary page.
    plain: Vec<u8>,
    /// Largest size of the page, in bytes.
    limit: usize,
}

/// A value in a dictionary.
struct Entry {
    /// The value itself if it has at most eight bytes, else its hash.
    tag: u64,
    /// Where the value begins in the dictionary page, after its length.
    start: u32,
    length: u32,
}

impl Entry {
    fn value<'a>(&self, plain: &'a [u8]) -> &'a [u8] {
        &plain[self.start as usize..][..self.length as usize]
    }

    /// The word that identifies the value in the table.
    #[inline]
    fn word(tag: u64, length: usize) -> u64 {
        tag ^ (length as u64) << 56
    }
}

impl Dictionary {
    /// Takes values until the next one has no room in the dictionary.
    fn take(&mut self, data: &[u8], offsets: &[i32]) -> usize {
        let Some(table) = &mut self.keys.table else { return 0 };
        self.keys.page.reserve(offsets.len() - 1);
        for (index, ends) in offsets.windows(2).enumerate() {
            let (start, end) = (ends[0] as usize, ends[1] as usize);
            let value = &data[start..end];
            let is_short = value.len() <= 8;
            let tag = if is_short { first_word(data, start, end) } else { hash(value, table.hash(0)) };
            let found = table.find(table.hash(Entry::word(tag, value.len())), |key| {
                let entry = &self.entries[key as usize];
                entry.tag == tag
                    && entry.length as usize == value.len()
                    && (is_short || entry.value(&self.plain) == value)
            });
            let key = match found {
                Lookup::Key(key) => key,
                Lookup::Free(index) if self.plain.len() + LENGTH_BYTES + value.len() <= self.limit => {
                    let length = value.len() as u32;
                    self.plain.extend_from_slice(&length.to_le_bytes());
                    self.entries.push(Entry { tag, start: self.plain.len() as u32, length });
                    self.plain.extend_from_slice(value);
                    table.insert(index, |key| {
                        let entry = &self.entries[key as usize];
                        Entry::word(entry.tag, entry.length as usize)
                    })
                }
                Lookup::Free(_) => {
                    self.keys.table = None;
                    return index;
                }
            };
            self.keys.page.push(key);
        }
        offsets.len() - 1
    }

    /// The least and the greatest value of the page under way.
    fn bounds(&self) -> Option<Bounds> {
        let mut is_seen = vec![false; self.entries.len()];
        let new = self.keys.page.iter().filter(|&&key| !std::mem::replace(&mut is_seen[key as usize], true));
        let mut values = new.map(|&key| self.entries[key as usize].value(&self.plain));
        let first = values.next()?;
        let (min, max) = values.fold((first, first), |(min, max), value| (min.min(value), max.max(value)));
        Some(Bounds { min: Bound::Text(Cut::of(min)), max: Bound::Text(Cut::of(max)) })
    }
}

/// The first eight bytes of a value, with zeros after its end.
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

/// The hash of a value of more than eight bytes.
#[inline]
fn hash(value: &[u8], seed: u64) -> u64 {
    let last = value.last_chunk::<8>().map_or(0, |last| u64::from_le_bytes(*last));
    let (words, _) = value.as_chunks::<8>();
    // Each step depends on the seed, so nobody can choose words that cancel each other out.
    words.iter().fold(mix(seed ^ last), |hash, word| mix(hash.rotate_left(23) ^ u64::from_le_bytes(*word)))
}

/// The smallest and the largest plain value of a page, and their first words, by which most values can be
/// compared already.
#[derive(Default)]
struct Extremes {
    found: bool,
    min_word: u64,
    min: Cut,
    max_word: u64,
    max: Cut,
}

impl Extremes {
    /// `word` is the first eight bytes of the value as a big-endian number.
    #[inline]
    fn include(&mut self, word: u64, value: &[u8]) {
        if !self.found || word <= self.min_word && (word < self.min_word || self.min.is_above(value)) {
            self.min_word = word;
            self.min.set(value);
        }
        if !self.found || word >= self.max_word && (word > self.max_word || self.max.is_below(value)) {
            self.max_word = word;
            self.max.set(value);
        }
        self.found = true;
    }

    fn take(&mut self) -> Option<Bounds> {
        let Self { found, min, max, .. } = std::mem::take(self);
        found.then_some(Bounds { min: Bound::Text(min), max: Bound::Text(max) })
    }
}
