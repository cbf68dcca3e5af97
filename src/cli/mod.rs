//! The command line: one file per subcommand.

mod sandbox;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Sandbox(sandbox::SandboxArgs),
    /// Waits in a pod of the sandbox that needs no database.
    #[command(hide = true)]
    SandboxPause(crate::sandbox::pause::Pause),
}

/// Parses the arguments, does the command, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run => ExitCode::SUCCESS,
        Command::Sandbox(args) => sandbox::run(&args),
        Command::SandboxPause(args) => sandbox::pause(&args),
    }
}
