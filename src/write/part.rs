//! Part files.
/// A finished part.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PartFile {
    /// Its name.
    pub file: String,
    /// Its inode.
    pub inode: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
    /// Row groups.
    pub row_groups: u32,
    /// Seconds of fsync.
    pub fsync_seconds: f64,
}
/// Its writer.
pub struct PartWriter;
