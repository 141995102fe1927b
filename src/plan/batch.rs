//! Groups small tables into batches. Up to 64 tables share one task, one record and one outcome, so that a
//! thousand tiny tables do not cost a thousand round trips. Pure.

use crate::message::{BatchNo, TableNo};

/// Maximum number of tables in a batch.
const MAX_TABLES: usize = 64;
/// Maximum number of bytes in a batch. A larger table has a batch of its own.
const MAX_BYTES: u64 = 64 << 20;

/// The facts of a table that decide its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMember {
    /// The table's number in the job.
    pub number: TableNo,
    /// Whether the table is one chunk.
    pub single: bool,
    /// Bytes of the table; none if the size is unknown (a view). Such a table has a batch of its own.
    pub bytes: Option<u64>,
}

/// Assigns a batch to each table, in the given order. A batch has the number of its first table. Tables keep
/// their order, and a large table between small ones does not end a batch.
#[must_use]
pub fn assign(members: &[BatchMember]) -> Vec<BatchNo> {
    let mut open: Option<(BatchNo, usize, u64)> = None;
    members
        .iter()
        .map(|member| {
            let bytes = match member.bytes {
                Some(bytes) if member.single && bytes <= MAX_BYTES => bytes,
                _ => return BatchNo::of_first(member.number),
            };
            match &mut open {
                Some((batch, tables, total)) if *tables < MAX_TABLES && *total + bytes <= MAX_BYTES => {
                    *tables += 1;
                    *total += bytes;
                    *batch
                }
                _ => {
                    let batch = BatchNo::of_first(member.number);
                    open = Some((batch, 1, bytes));
                    batch
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small(number: u32, bytes: u64) -> BatchMember {
        BatchMember { number: TableNo(number), single: true, bytes: Some(bytes) }
    }

    fn numbers(members: &[BatchMember]) -> Vec<u32> {
        assign(members).into_iter().map(|batch| batch.0).collect()
    }

    #[test]
    fn small_tables_share_a_batch_until_it_is_full() {
        let members: Vec<_> = (0..130).map(|n| small(n, 1_000)).collect();
        let batches = numbers(&members);
        assert_eq!((batches[0], batches[63], batches[64], batches[127], batches[129]), (0, 0, 64, 64, 128));
        let heavy: Vec<_> = (0..4).map(|n| small(n, 30 << 20)).collect();
        assert_eq!(numbers(&heavy), [0, 0, 2, 2]);
    }

    #[test]
    fn large_split_and_unknown_tables_travel_alone() {
        let members = [
            small(1, 10),
            BatchMember { number: TableNo(2), single: false, bytes: Some(10) },
            small(3, MAX_BYTES + 1),
            BatchMember { number: TableNo(4), single: true, bytes: None },
            small(7, MAX_BYTES - 10),
            small(8, 1),
            small(9, u64::MAX),
        ];
        assert_eq!(numbers(&members), [1, 2, 3, 4, 1, 8, 9]);
    }

    #[test]
    fn no_tables_make_no_batch() {
        assert!(assign(&[]).is_empty());
    }
}
