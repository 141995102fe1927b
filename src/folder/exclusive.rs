//! stand-in
use std::io;
use std::path::Path;
/// x
pub enum Linked {
    /// n
    New {
        /// i
        inode: u64,
    },
    /// e
    Exists,
}
/// x
pub fn sync_dir(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}
/// x
pub fn write_exclusive(_path: &Path, _b: &[u8]) -> io::Result<Linked> {
    unimplemented!()
}
