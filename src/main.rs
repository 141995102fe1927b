//! The executable `adu-export`: parses, runs, prints the error chain once.

fn main() -> std::process::ExitCode {
    adu_export::cli::main()
}
