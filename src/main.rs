//! The executable `adu-export`: parses, runs, prints the error chain once.

fn main() {}
