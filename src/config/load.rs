//! Reads the file.
