//! Parts are read back with the Parquet crate.
