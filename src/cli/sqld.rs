//! `comeback sqld`: the stand-in database.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use crate::sqld::{self, Defect, Init};

/// Run the stand-in database: SQL Server's protocol in front of SQLite
///
/// It is not SQL Server and says so in @@VERSION. Any client that speaks TDS 7.2 or later can
/// use it, with or without encryption. Log in as `sa`, with the password that MSSQL_SA_PASSWORD
/// had on the first start.
///
///   ACCEPT_EULA=Y MSSQL_SA_PASSWORD='...' comeback sqld --data /tmp/db --listen 127.0.0.1:14330
///
/// Log lines go to standard output, as SQL Server's do in a container. SIGTERM stops it in good
/// order. The process that is started is a watchdog; its child does the work, and the two end
/// together.
#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "the text is the help, where backticks would show")]
#[command(verbatim_doc_comment)]
pub(super) struct SqldArgs {
    /// Folder of the data [default: /var/opt/mssql]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address, port, or both: 127.0.0.1, 1433, 127.0.0.1:1433 [default: 0.0.0.0:1433]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Misbehave after a restart, so that a tester can be tested
    #[arg(long, value_name = "NAME")]
    defect: Option<Defect>,
    /// Refuse a view or command for want of rights, such as sys.dm_os_sys_info or "dbcc checkdb" (repeatable)
    #[arg(long, value_name = "VIEW")]
    deny: Vec<String>,
    /// Take so much longer to recover each user database
    #[arg(long, value_name = "DURATION", hide = true, value_parser = humantime::parse_duration)]
    recover_slowly: Option<std::time::Duration>,
    /// Begin with a shell, as some images of SQL Server do: `entrypoint` waits for the server, `shell` has two more children; neither passes SIGTERM on
    #[arg(long, value_name = "SHELL", hide = true)]
    init: Option<Init>,
    /// Be the watchdog that such a shell started
    #[arg(long, hide = true)]
    watchdog: bool,
    /// Be the engine of a watchdog
    #[arg(long, hide = true)]
    engine: bool,
}

/// Runs it until it is told to stop.
pub(super) fn main(args: SqldArgs) -> ExitCode {
    sqld::main(&sqld::Options {
        data: args.data,
        listen: args.listen,
        defect: args.defect,
        deny: args.deny,
        recover_slowly: args.recover_slowly,
        init: args.init,
        watchdog: args.watchdog,
        engine: args.engine,
    })
}
