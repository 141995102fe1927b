//! A small cache of files that a process read last.

use std::collections::{BTreeMap, VecDeque};

/// The most recent values. When it is full, it forgets the oldest one.
pub(super) struct Recent<K, V> {
    most: usize,
    values: BTreeMap<K, V>,
    /// Keys, the oldest first.
    order: VecDeque<K>,
}

impl<K: Ord + Clone, V> Recent<K, V> {
    /// A cache of at most this many values.
    pub(super) fn of(most: usize) -> Self {
        Self { most, values: BTreeMap::new(), order: VecDeque::new() }
    }

    /// What is remembered under a key.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    /// Remembers a value.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.values.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_whatever_its_key() {
        let mut recent = Recent::of(2);
        for (key, value) in [(9, 'a'), (1, 'b'), (9, 'c'), (5, 'd')] {
            recent.insert(key, value);
        }
        assert_eq!([9, 1, 5].map(|key| recent.get(&key).copied()), [None, Some('b'), Some('d')]);
    }
}
