//! The command line: one file per subcommand.

mod check;
pub mod exit;
pub mod progress;
mod report;
mod run;
mod sandbox;
mod schema;
mod summary;
pub mod term;

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
    Run(run::Run),
    Check(check::Check),
    Report(report::Report),
    Sandbox(sandbox::SandboxArgs),
    /// Waits in a pod of the sandbox that needs no database.
    #[command(hide = true)]
    SandboxPause(crate::sandbox::pause::Pause),
    Schema(schema::Schema),
    Sqld(sqld::SqldArgs),
}

/// Parses the arguments, does the command, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(run) => run.run(),
        Command::Check(check) => check.run().into(),
        Command::Report(report) => report.run(),
        Command::Sandbox(args) => sandbox::run(&args),
        Command::SandboxPause(args) => sandbox::pause(&args),
        Command::Schema(schema) => schema.run().into(),
        Command::Sqld(args) => sqld::main(args),
    }
}
