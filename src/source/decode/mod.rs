//! Turns binary COPY streams, and rows as PostgreSQL stores them, into Arrow batches.
//!
//! [`Form`] says what the bytes of a field mean. `frame` finds the rows in a stream that may be split
//! anywhere; `heap` takes rows that were found in pages. Both make a `block`, which `column` reads column by column.
//! [`CopyDecoder`] and `HeapDecoder` gather the rows in a `batch`. This module
//! promises: no input causes a panic, nothing is allocated for a length before its bytes have arrived, memory
//! stays within a batch and the widest row (I8), and a stream ends successfully only with its trailer.

mod batch;
mod block;
mod column;
mod decoder;
mod frame;
mod heap;
pub(super) mod stream;

pub use column::{Form, FormAttribute, MAX_DIGITS, Shape, StreamColumn};
pub(super) use column::{StoredForm, make_portable, numeric_is_sound, send_numeric, stored_form};
pub use decoder::CopyDecoder;
pub(super) use frame::MAX_ROW;
pub(super) use heap::{HeapDecoder, HeapRows};

/// What a binary COPY begins with: signature, flags, length of the extension. Sources that fetch tuples without
/// this frame put it around them.
pub(super) const COPY_HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What a binary COPY ends with.
pub(super) const COPY_TRAILER: [u8; 2] = [0xff, 0xff];
