//! The `dormouse` binary.

/// Half of what a short run costs the server is small allocations, for which the system's own takes twice as long.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    dormouse::cli::main()
}
