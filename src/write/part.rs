//! Part files.
/// A part.
pub struct PartFile;
/// Its writer.
pub struct PartWriter;
