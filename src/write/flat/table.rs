//! The look-up of dictionaries: which key a value has.

/// Look-ups of one value that meet so many others give up: values may be
/// chosen so that all of them collide.
const PROBES: usize = 128;
/// The key of a free slot.
const FREE: u32 = u32::MAX;

/// Keys of values, by a tag and a length. Slots are searched one after the
/// other, and half of them stay free.
pub(super) struct Table {
    slots: Vec<Slot>,
    keys: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    tag: u64,
    length: u32,
    key: u32,
}

/// What a look-up found.
pub(super) enum Found {
    /// The key of the value.
    Key(u32),
    /// Where a new value belongs, see [`Table::insert`].
    Free(usize),
    /// Too many values are in its place.
    Crowded,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { slots: vec![Slot { tag: 0, length: 0, key: FREE }; 64], keys: 0 }
    }

    /// Values that it holds; also the next key.
    pub(super) fn len(&self) -> usize {
        self.keys as usize
    }

    /// Looks a value up. `same` says whether the value of a key that has this
    /// tag and length is the one that is looked up.
    #[inline]
    pub(super) fn find(&self, tag: u64, length: u32, same: impl Fn(u32) -> bool) -> Found {
        let mut at = hash(tag, length);
        for _ in 0..PROBES {
            let index = at & (self.slots.len() - 1);
            let slot = &self.slots[index];
            if slot.key == FREE {
                return Found::Free(index);
            }
            if slot.tag == tag && slot.length == length && same(slot.key) {
                return Found::Key(slot.key);
            }
            at = at.wrapping_add(1);
        }
        Found::Crowded
    }

    /// Gives the next key to a value, where [`find`](Self::find) said that it is to stand.
    pub(super) fn insert(&mut self, index: usize, tag: u64, length: u32) -> u32 {
        let key = self.keys;
        self.slots[index] = Slot { tag, length, key };
        self.keys += 1;
        if self.len() * 2 > self.slots.len() {
            self.grow();
        }
        key
    }

    fn grow(&mut self) {
        let free = Slot { tag: 0, length: 0, key: FREE };
        let slots = vec![free; self.slots.len() * 4];
        let mask = slots.len() - 1;
        for slot in std::mem::replace(&mut self.slots, slots) {
            if slot.key != FREE {
                let mut index = hash(slot.tag, slot.length) & mask;
                while self.slots[index].key != FREE {
                    index = (index + 1) & mask;
                }
                self.slots[index] = slot;
            }
        }
    }

    /// Bytes that it has in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}

#[inline]
fn hash(tag: u64, length: u32) -> usize {
    mix(tag ^ u64::from(length) << 56) as usize
}

/// Spreads what differs in any bit over all bits.
#[inline]
pub(super) fn mix(word: u64) -> u64 {
    let product = u128::from(word ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
    product as u64 ^ (product >> 64) as u64
}
