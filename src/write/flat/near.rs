//! A fast look-up of the keys of numbers that lie close together.

use super::table::FREE;

/// The range from the smallest to the largest number may always have this many numbers.
const FEW: usize = 64;
/// The range may have this many more numbers for each number that has a key.
const FOR_EACH: usize = 4;
/// The range never has more numbers than this.
const MANY: usize = 1 << 16;

/// Keys, indexed by the distance of their number from the first number. The index knows some of the keys of a
/// dictionary; if the numbers are dense, it soon knows nearly all.
#[derive(Default)]
pub(super) struct Near {
    first: i64,
    /// [`FREE`] if the key is not known.
    keys: Vec<u32>,
}

impl Near {
    /// The key of a number, if it is known here.
    #[inline]
    pub(super) fn get(&self, number: i64) -> Option<u32> {
        let distance = number.wrapping_sub(self.first) as u64;
        self.keys.get(usize::try_from(distance).ok()?).copied().filter(|&key| key != FREE)
    }

    /// Learns a key of a dictionary that has `numbers` keys.
    pub(super) fn learn(&mut self, number: i64, key: u32, numbers: usize) {
        if self.keys.is_empty() {
            self.first = number;
        }
        let distance = i128::from(number) - i128::from(self.first);
        let length = self.keys.len() as i128;
        if !(0..length).contains(&distance) && !self.reach(distance, numbers) {
            return;
        }
        let distance = number.wrapping_sub(self.first) as u64 as usize;
        self.keys[distance] = key;
    }

    /// Makes room for a number at `distance` from the first one, and half as much again. Returns false if the
    /// numbers are not dense.
    fn reach(&mut self, distance: i128, numbers: usize) -> bool {
        let before = distance.min(0).unsigned_abs();
        let length = before + (self.keys.len() as u128).max(distance.max(0) as u128 + 1);
        if length > (FEW + FOR_EACH * numbers).min(MANY) as u128 {
            return false;
        }
        let (before, length) = (before as usize, length as usize);
        let spare = length / 2;
        // The range must not begin below `i64::MIN`.
        let ahead = if distance < 0 { before + spare } else { 0 };
        let Some(first) = self.first.checked_sub(ahead as i64) else { return false };
        let mut keys = vec![FREE; length + spare];
        keys[ahead..ahead + self.keys.len()].copy_from_slice(&self.keys);
        (self.first, self.keys) = (first, keys);
        true
    }

    /// Size in memory, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Learns numbers in this order, each with its position as its key, and checks that no keys are mixed up.
    fn learned(numbers: &[i64]) -> Near {
        let mut near = Near::default();
        for (key, &number) in numbers.iter().enumerate() {
            assert_eq!(near.get(number), None, "{number} is new");
            near.learn(number, key as u32, key + 1);
        }
        for (key, &number) in numbers.iter().enumerate() {
            assert!(near.get(number).is_none_or(|found| found == key as u32), "the key of {number}");
        }
        near
    }

    #[test]
    fn dense_numbers_are_all_known_in_any_order() {
        let ascending: Vec<i64> = (-1500..1500).collect();
        let descending: Vec<i64> = (0..3000).rev().collect();
        let mixed: Vec<i64> = (0..2503).map(|n| 8000 + n * 97 % 2503).collect();
        let highest: Vec<i64> = (0..3000).map(|n| i64::MAX - n).collect();
        for numbers in [ascending, descending, highest] {
            let near = learned(&numbers);
            assert!(numbers.iter().all(|&number| near.get(number).is_some()));
            assert_eq!([near.get(i64::MIN), near.get(7_777_777)], [None, None]);
        }
        let mut near = learned(&mixed);
        for _ in 0..2 {
            for (key, &number) in mixed.iter().enumerate() {
                near.learn(number, key as u32, mixed.len());
            }
        }
        assert!(mixed.iter().all(|&number| near.get(number).is_some()));
    }

    #[test]
    fn what_is_not_dense_takes_no_memory() {
        let extremes = learned(&[0, i64::MIN, i64::MAX, -1, 1, i64::MIN + 1]);
        assert!(extremes.memory_bytes() < 1 << 10);
        let far: Vec<i64> = (0..100_000).map(|n| n * 1000).collect();
        assert!(learned(&far).memory_bytes() <= MANY * 6);
        let many: Vec<i64> = (0..200_000).collect();
        assert!(learned(&many).memory_bytes() <= MANY * 6);
    }
}
