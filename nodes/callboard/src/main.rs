//! The callboard binary: everything is in the library.

fn main() -> std::process::ExitCode {
    callboard::cli::main()
}
