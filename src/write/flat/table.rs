//! The look-up of dictionaries: which key a value has.

use std::hash::{BuildHasher, RandomState};

/// The key of a free slot.
pub(super) const FREE: u32 = u32::MAX;

/// Keys of values by their hashes. The values are kept by whoever asks. Slots
/// are searched one after the other, and half of them stay free.
pub(super) struct Table {
    slots: Vec<u32>,
    /// Keys given so far; also the next one.
    keys: u32,
    seed: u64,
}

/// What a look-up found.
pub(super) enum Found {
    /// The key of the value.
    Key(u32),
    /// Where a new value belongs, see [`Table::insert`].
    Free(usize),
}

impl Table {
    pub(super) fn new() -> Self {
        // Nobody can choose values that collide: each table has hashes of its own.
        Self { slots: vec![FREE; 64], keys: 0, seed: RandomState::new().hash_one(()) }
    }

    /// The hash of what tells values apart.
    #[inline]
    pub(super) fn hash(&self, word: u64) -> u64 {
        mix(word ^ self.seed)
    }

    /// Looks up a value with this hash; `is_it` says whether a key is the value's.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Found {
        let mask = self.slots.len() - 1;
        let mut index = hash as usize & mask;
        loop {
            match self.slots[index] {
                FREE => return Found::Free(index),
                key if is_it(key) => return Found::Key(key),
                _ => index = (index + 1) & mask,
            }
        }
    }

    /// Gives the next key to a value where [`find`](Self::find) said that it
    /// belongs. `word_of` is what a key's value is hashed by, see [`Table::hash`].
    #[inline]
    pub(super) fn insert(&mut self, index: usize, word_of: impl Fn(u32) -> u64) -> u32 {
        let key = self.keys;
        self.slots[index] = key;
        self.keys += 1;
        if self.keys as usize * 2 > self.slots.len() {
            self.grow(word_of);
        }
        key
    }

    #[cold]
    fn grow(&mut self, word_of: impl Fn(u32) -> u64) {
        let mask = self.slots.len() * 2 - 1;
        self.slots = vec![FREE; mask + 1];
        for key in 0..self.keys {
            let mut index = self.hash(word_of(key)) as usize & mask;
            while self.slots[index] != FREE {
                index = (index + 1) & mask;
            }
            self.slots[index] = key;
        }
    }

    /// Bytes that it has in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }
}

/// Spreads what differs in any bit over all bits.
#[inline]
pub(super) fn mix(word: u64) -> u64 {
    let product = u128::from(word ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
    product as u64 ^ (product >> 64) as u64
}
