//! What the first values of a column say about the sizes of its encodings.
//!
//! Sizes are bits per value. The sample is the beginning of a row group and not a random choice of its rows.
//! So the number of distinct values in the rest follows from how fast it grows in the sample: in a column of
//! keys in order, the second half has as many new values as the first one, even if a few of the keys are out
//! of order. In a column of few values, the second half has hardly any.

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;

use super::flat::{bytes_of_differences, whole_numbers};

/// Number of rows in the sample.
pub(super) const ROWS: usize = 2048;
/// Fewer values say nothing.
const FEW: usize = 64;
/// Equal neighbours are stored as one run if they are at least this many.
const LONG_RUN: usize = 16;
/// Size of a run of dictionary keys, in bits.
const RUN_BITS: f64 = 32.0;
/// Approximate size of a repetition after compression, in bits. One repetition has at most 64 bytes (snappy).
const REPETITION_BITS: f64 = 24.0;
const REPETITION_BYTES: usize = 64;
/// Size of the length in front of a text, in bytes.
const LENGTH_BYTES: usize = 4;

/// Facts about the first values of a column that are not NULL.
pub(super) struct Sample {
    values: usize,
    /// Approximate number of values in the first batch.
    in_batch: f64,
    /// Distinct values in the first half.
    early: usize,
    distinct: usize,
    /// Runs of equal neighbours. A value between two others is a run, too.
    runs: usize,
    long_runs: usize,
    /// Values outside of long runs.
    loose: usize,
    plain_bytes: usize,
    /// Size as differences; `None` if the values are no whole numbers.
    bytes_of_differences: Option<usize>,
}

/// The row group that a sample is the beginning of.
#[derive(Clone, Copy)]
pub(super) struct Rest {
    /// Approximate number of batches like the one with the sample.
    pub(super) batches: usize,
    /// Size at which a dictionary is given up, in bytes.
    pub(super) dictionary_bytes: usize,
    pub(super) is_compressed: bool,
    /// Whether numbers may be stored as differences.
    pub(super) may_differ: bool,
}

impl Sample {
    /// The sample of a column; `None` if its values have one size and hardly ever repeat, or are bits.
    pub(super) fn of(array: &dyn Array) -> Option<Self> {
        let rows = array.len().min(ROWS);
        let valid = || (0..rows).filter(|&row| array.is_valid(row));
        let mut hashes = Vec::with_capacity(rows);
        let (mut plain_bytes, mut differences) = (0, None);
        let mut include = |value: &[u8]| {
            hashes.push(hash(value));
            plain_bytes += LENGTH_BYTES + value.len();
        };
        match array.data_type() {
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                valid().for_each(|row| include(array.value(row).as_bytes()));
            }
            DataType::Binary => {
                let array = array.as_binary::<i32>();
                valid().for_each(|row| include(array.value(row)));
            }
            ty => {
                let width = ty.primitive_width()?;
                if let Some((numbers, width)) = whole_numbers(array, rows) {
                    hashes.extend(numbers.iter().map(|&number| mix(0, number as u64)));
                    differences = Some(bytes_of_differences(&numbers, width));
                    plain_bytes = numbers.len() * width;
                } else {
                    let data = array.to_data();
                    let bytes = &data.buffers()[0][data.offset() * width..];
                    hashes.extend(valid().map(|row| hash(&bytes[row * width..][..width])));
                    plain_bytes = hashes.len() * width;
                }
            }
        }
        let (early, distinct) = count_distinct(&hashes);
        let mut sample = Self {
            values: hashes.len(),
            in_batch: array.len() as f64 * hashes.len() as f64 / rows.max(1) as f64,
            early,
            distinct,
            runs: 0,
            long_runs: 0,
            loose: 0,
            plain_bytes,
            bytes_of_differences: differences,
        };
        sample.count_runs(&hashes);
        Some(sample)
    }

    /// Whether the numbers take no more space as differences than as plain numbers.
    pub(super) fn differences_pay(&self) -> bool {
        self.bytes_of_differences.is_some_and(|bytes| bytes <= self.plain_bytes)
    }

    /// Whether a dictionary pays.
    pub(super) fn dictionary_pays(&self, rest: &Rest) -> bool {
        if self.values < FEW {
            return true;
        }
        let dictionary = self.dictionary(rest);
        let Some(bytes) = self.bytes_of_differences else {
            // If 90 % of the values are new, the column has about ten thousand distinct ones. More of them
            // cost more time than the dictionary is worth.
            return self.distinct <= self.values / 10 * 9 && dictionary < self.plain(rest);
        };
        let plain = self.plain(rest);
        let other = if rest.may_differ { plain.min(self.bits(bytes)) } else { plain };
        if self.distinct <= self.values / 2 {
            return dictionary < other;
        }
        // The more distinct values there are, the longer takes a look-up, and the rougher is the estimate.
        self.distinct <= self.values / 32 * 31 && dictionary < other * 0.875
    }

    /// Size as plain values. Compression leaves little of equal neighbours.
    fn plain(&self, rest: &Rest) -> f64 {
        let each = self.bits(self.plain_bytes);
        if !rest.is_compressed {
            return each;
        }
        let runs = self.runs as f64 / self.values as f64;
        let equal = each * REPETITION_BITS / (8 * REPETITION_BYTES) as f64;
        each.min((each + REPETITION_BITS) * runs + equal * (1.0 - runs))
    }

    /// Size with a dictionary, until it is full or the row group ends.
    fn dictionary(&self, rest: &Rest) -> f64 {
        let entry_bits = self.bits(self.plain_bytes);
        let limit = ((rest.dictionary_bytes * 8) as f64 / entry_bits).max(1.0);
        let values = (self.in_batch * rest.batches as f64).min(self.values_with(limit)).max(1.0);
        let entries = self.distinct_of(values).round().clamp(1.0, limit);
        let key_bits = entries.log2().ceil();
        let keys = key_bits * self.loose as f64 + RUN_BITS * self.long_runs as f64;
        entries * entry_bits / values + keys / self.values as f64
    }

    /// Bits per value.
    fn bits(&self, bytes: usize) -> f64 {
        (bytes * 8) as f64 / self.values as f64
    }

    /// How many new values a half has for each new one in the half before it; never zero. By chance the second
    /// half may have fewer new values than it should, and a large row group would multiply this error. So
    /// their standard deviation is added.
    fn growth(&self) -> f64 {
        let late = (self.distinct - self.early) as f64;
        ((late + late.sqrt()) / self.early as f64).max(0.001)
    }

    /// How many distinct values this many values have.
    fn distinct_of(&self, values: f64) -> f64 {
        let (growth, halves) = (self.growth(), values / self.half());
        if growth > 0.999 {
            return self.distinct as f64 * values / self.values as f64;
        }
        self.early as f64 * (1.0 - growth.powf(halves)) / (1.0 - growth)
    }

    /// How many values have this many distinct ones; infinite if there never are so many.
    fn values_with(&self, distinct: f64) -> f64 {
        let growth = self.growth();
        if growth > 0.999 {
            return distinct * self.values as f64 / self.distinct as f64;
        }
        let left = 1.0 - distinct * (1.0 - growth) / self.early as f64;
        if left > 0.0 { left.ln() / growth.ln() * self.half() } else { f64::INFINITY }
    }

    fn half(&self) -> f64 {
        (self.values / 2) as f64
    }

    fn count_runs(&mut self, hashes: &[u64]) {
        for run in hashes.chunk_by(|one, next| one == next) {
            self.runs += 1;
            if run.len() >= LONG_RUN {
                self.long_runs += 1;
            } else {
                self.loose += run.len();
            }
        }
    }
}

/// Counts the distinct values in the first half, and in all.
fn count_distinct(hashes: &[u64]) -> (usize, usize) {
    const FREE: u64 = 0;
    const BITS: u32 = (2 * ROWS).ilog2();
    let mut slots = vec![FREE; 1 << BITS];
    let mut count = |hashes: &[u64]| {
        let mut distinct = 0;
        for hash in hashes {
            let hash = (*hash).max(1);
            let mut index = (hash >> (u64::BITS - BITS)) as usize;
            while slots[index] != FREE && slots[index] != hash {
                index = (index + 1) % slots.len();
            }
            distinct += usize::from(slots[index] == FREE);
            slots[index] = hash;
        }
        distinct
    };
    let (first, second) = hashes.split_at(hashes.len() / 2);
    let early = count(first);
    (early, early + count(second))
}

/// A simple hash, good enough to count distinct values in a sample.
fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash, u64::from_le_bytes(last))
}

fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
