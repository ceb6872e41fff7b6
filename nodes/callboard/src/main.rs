//! The callboard binary: everything is in the library.

/// A tenth less processor time a task than the system's allocator (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    callboard::cli::main()
}
