//! The command line: one file per subcommand.

mod check;
mod cluster;
mod dead_man;
mod exhaust_memory;
pub mod exit;
mod faults;
mod heal;
mod knock;
mod on_node;
mod plan;
mod preflight;
mod prober;
pub mod progress;
mod report;
mod run;
mod sandbox;
mod schema;
mod selection;
mod signal;
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
    /// Probes the database from a pod.
    #[command(hide = true)]
    Prober(prober::ProberArgs),
    Cluster(cluster::ClusterArgs),
    #[command(hide = true)]
    Knock(knock::Knock),
    #[command(hide = true)]
    DeadMan(dead_man::DeadManArgs),
    #[command(hide = true)]
    ExhaustMemory(exhaust_memory::ExhaustMemoryArgs),
    Faults(faults::Faults),
    #[command(hide = true)]
    OnNode(on_node::OnNodeArgs),
    Plan(plan::Plan),
    Preflight(preflight::Preflight),
    Report(report::Report),
    Heal(heal::Heal),
    Sandbox(sandbox::SandboxArgs),
    /// Waits in a pod of the sandbox that needs no database.
    #[command(hide = true)]
    SandboxPause(crate::sandbox::pause::Pause),
    Schema(schema::Schema),
    #[command(hide = true)]
    Signal(signal::SignalArgs),
    Sqld(sqld::SqldArgs),
}

/// Parses the arguments, does the command, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    // Any subcommand may be what a container of a sandbox runs, and dies with the sandbox. `sqld` asks for that itself, and tells its log if it
    // cannot. Here, on the main thread: the kernel ties the wish to the thread that has it.
    if std::env::var_os("COMEBACK_PARENT").is_some()
        && !matches!(command, Command::Sqld(_))
        && let Err(error) = crate::sandbox::pause::die_with_parent()
    {
        term::prose(&format!("error: {error}"));
        return exit::Exit::Environment.into();
    }
    match command {
        Command::Run(run) => run.run(),
        Command::Check(check) => check.run().into(),
        Command::Prober(args) => prober::main(args),
        Command::Cluster(args) => args.run(),
        Command::Knock(args) => args.run(),
        Command::DeadMan(args) => dead_man::run(&args),
        Command::ExhaustMemory(args) => exhaust_memory::run(&args),
        Command::Faults(faults) => faults.run().into(),
        Command::OnNode(args) => on_node::run(&args),
        Command::Plan(plan) => plan.run(),
        Command::Preflight(preflight) => preflight.run(),
        Command::Report(report) => report.run(),
        Command::Heal(heal) => heal.run(),
        Command::Sandbox(args) => sandbox::run(&args),
        Command::SandboxPause(args) => sandbox::pause(&args),
        Command::Schema(schema) => schema.run().into(),
        Command::Signal(args) => signal::run(&args),
        Command::Sqld(args) => sqld::main(args),
    }
}
