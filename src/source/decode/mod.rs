//! Turns binary COPY streams into Arrow batches.
//!
//! [`Form`] says what the bytes of a field mean. `frame` finds the rows in a stream that may be split
//! anywhere. `column` reads the rows column by column. [`CopyDecoder`] builds the batches. This module
//! promises: no input causes a panic, nothing is allocated for a length before its bytes have arrived, memory
//! stays within a batch and the widest row (I8), and a stream ends successfully only with its trailer.

mod column;
mod decoder;
mod frame;
pub(super) mod stream;

pub(super) use column::make_portable;
pub use column::{Form, FormAttribute, MAX_DIGITS, Shape, StreamColumn};
pub use decoder::CopyDecoder;
pub(super) use frame::MAX_ROW;

/// What a binary COPY begins with: signature, flags, length of the extension. Sources that fetch tuples without
/// this frame put it around them.
pub(super) const COPY_HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What a binary COPY ends with.
pub(super) const COPY_TRAILER: [u8; 2] = [0xff, 0xff];
