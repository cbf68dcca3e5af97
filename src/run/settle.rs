//! Before the final read: no session of ours may still be at work.
//!
//! A write in doubt may belong to a session that the server has not yet noticed to be dead, and could commit after the read. Rows in doubt are
//! right either way, so this cannot turn a verdict; it makes the count of those that were applied exact, and says when it is not.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{event::Answer, workload::Server};

/// How long the sessions of the writers and probes may take to end.
const SETTLE_DEADLINE: Duration = Duration::from_secs(10);
const PERIOD: Duration = Duration::from_millis(50);

/// Waits until the server has no session of `application` any more.
///
/// # Errors
/// In words: why nobody knows.
pub(super) async fn settle(server: &Server, application: &str) -> Result<(), String> {
    let deadline = Instant::now() + SETTLE_DEADLINE;
    let mut session = server.connect("master", deadline).await.map_err(|error| error.to_string())?;
    let quoted = application.replace('\'', "''");
    let sql = format!("SELECT CONVERT(varchar(20), COUNT(*)) FROM sys.dm_exec_sessions WHERE program_name = N'{quoted}'");
    loop {
        match session.ask(&sql, deadline).await.map_err(|error| error.to_string())? {
            Answer::Known(count) if count.trim() == "0" => break,
            Answer::Known(count) if Instant::now() + PERIOD > deadline => {
                return Err(format!(
                    "{count} sessions of the writers were still open after {}",
                    humantime::format_duration(SETTLE_DEADLINE)
                ));
            }
            Answer::Known(_) => sleep(PERIOD).await,
            Answer::Unavailable(why) => return Err(format!("the server does not tell its sessions: {why}")),
        }
    }
    session.close(deadline).await.map_err(|error| error.to_string())
}
