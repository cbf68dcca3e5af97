//! The command line: one file per subcommand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod sqld;

#[derive(Debug, Parser)]
#[command(name = "comeback", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// (being built)
    Run,
    Sqld(sqld::SqldArgs),
}

/// Parses the arguments, does the command, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run => ExitCode::SUCCESS,
        Command::Sqld(args) => sqld::main(args),
    }
}
