//! The hash table of a dictionary: it finds the key of a value.

use std::hash::{BuildHasher, RandomState};

/// The key of a free slot.
pub(super) const FREE: u32 = u32::MAX;

/// Keys of values, by hash. The caller keeps the values. A look-up tries slots one after the other; half of
/// the slots stay free.
pub(super) struct Table {
    slots: Vec<u32>,
    /// Number of keys; also the next key.
    keys: u32,
    seed: u64,
}

/// The result of a look-up.
pub(super) enum Lookup {
    /// The key of the value.
    Key(u32),
    /// The free slot for a new value, see [`Table::insert`].
    Free(usize),
}

impl Table {
    pub(super) fn new() -> Self {
        // Each table has its own seed, so that nobody can choose values whose hashes collide.
        Self { slots: vec![FREE; 64], keys: 0, seed: RandomState::new().hash_one(()) }
    }

    /// The hash of a word that identifies a value.
    #[inline]
    pub(super) fn hash(&self, word: u64) -> u64 {
        mix(word ^ self.seed)
    }

    /// Looks up a value by its hash. `is_it` says whether a key belongs to the value.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Lookup {
        let mask = self.slots.len() - 1;
        let mut index = hash as usize & mask;
        loop {
            match self.slots[index] {
                FREE => return Lookup::Free(index),
                key if is_it(key) => return Lookup::Key(key),
                _ => index = (index + 1) & mask,
            }
        }
    }

    /// Gives the next key to a new value, in the slot that [`find`](Self::find) returned. `word_of` returns
    /// the word that identifies the value of a key, see [`Table::hash`].
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

    /// Size in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }
}

/// Mixes a word so that a change of any bit changes many bits.
#[inline]
pub(super) fn mix(word: u64) -> u64 {
    let product = u128::from(word ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
    product as u64 ^ (product >> 64) as u64
}
