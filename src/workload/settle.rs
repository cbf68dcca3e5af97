//! Before the final read: no session of ours may still be at work.
//!
//! A write in doubt may belong to a session that the server has not yet noticed to be dead, and could commit after the read, or between the
//! reads of the two tables. Rows in doubt are right either way, but half of one is a torn transaction only if nobody was at work any more.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Server, Session, SqlError};
use crate::event::Answer;

const PERIOD: Duration = Duration::from_millis(50);

/// Waits until the server has no session of `application` any more.
///
/// A login with too few rights sees its own session and no other, and would be told "none". So a second session of ours must be seen before
/// that is believed.
///
/// # Errors
/// In words: why nobody knows.
pub async fn settle(server: &Server, application: &str, within: Duration) -> Result<(), String> {
    let deadline = Instant::now() + within;
    let text = |error: SqlError| error.to_string();
    let mut session = server.connect("master", deadline).await.map_err(text)?;
    let witness = server.connect("master", deadline).await.map_err(text)?;
    let ours = count(&mut session, &server.application, deadline).await?;
    if ours < 2 {
        return Err(format!("the server shows {ours} of our 2 sessions: it takes the right VIEW SERVER STATE to see them all"));
    }
    witness.close(deadline).await.map_err(text)?;
    loop {
        match count(&mut session, application, deadline).await? {
            0 => break,
            open if Instant::now() + PERIOD > deadline => {
                return Err(format!("{open} sessions of the writers were still open after {}", humantime::format_duration(within)));
            }
            _ => sleep(PERIOD).await,
        }
    }
    session.close(deadline).await.map_err(text)
}

async fn count(session: &mut Session, application: &str, deadline: Instant) -> Result<u64, String> {
    let quoted = application.replace('\'', "''");
    let sql = format!("SELECT CONVERT(varchar(20), COUNT(*)) FROM sys.dm_exec_sessions WHERE program_name = N'{quoted}'");
    match session.ask(&sql, deadline).await.map_err(|error| error.to_string())? {
        Answer::Known(count) => count.trim().parse().map_err(|_| format!("the server counts its sessions as `{count}`")),
        Answer::Unavailable(why) => Err(format!("the server does not tell its sessions: {why}")),
    }
}
