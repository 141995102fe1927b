//! A part that is held in memory until it is finished, whatever keeps it then.

use std::io;

/// What was written so far, and where it will go.
pub(crate) struct Held<T> {
    pub(crate) to: T,
    pub(crate) content: Vec<u8>,
}

impl<T> Held<T> {
    pub(crate) fn new(to: T) -> Box<Self> {
        Box::new(Self { to, content: Vec::new() })
    }
}

impl<T> io::Write for Held<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.content.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
