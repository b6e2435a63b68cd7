//! The `dormouse` binary.

fn main() -> std::process::ExitCode {
    dormouse::cli::main()
}
