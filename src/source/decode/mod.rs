//! Binary COPY streams become Arrow batches.
//!
//! [`Form`] says what the bytes of a field mean, `frame` finds the rows
//! in a stream that may be split anywhere, `column` reads them column by
//! column, and [`CopyDecoder`] puts batches together. It promises: no input
//! panics, nothing is allocated for a length before its bytes have come,
//! memory stays within a batch and the widest row (I8), and only a stream with
//! its trailer ends well.

mod column;
mod decoder;
mod form;
mod frame;
pub mod portable;

pub use decoder::CopyDecoder;
pub use form::{Form, FormAttribute, Shape, StreamColumn};
