//! The `comeback` program: parse the arguments, do the command, return its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    comeback::cli::main()
}
