//! The headline: one transaction on a new connection.

use tokio::time::Instant;

use super::Finding;
use crate::{
    event::{Outcome, PROBE_WRITER, RowKey},
    workload::{DATABASE, Server, Tables},
};

pub(super) async fn attempt(server: &Server, tables: &Tables, number: u64, deadline: Instant) -> Finding {
    let mut session = match server.connect(DATABASE, deadline).await {
        Ok(session) => session,
        Err(error) => return (error.outcome(), None, Some(error.to_attempt_error())),
    };
    match tables.write(&mut session, &[RowKey { writer: PROBE_WRITER, seq: number }], deadline).await {
        // The connection closes as the session is dropped: a farewell that the server answers late would move the acknowledgement.
        Ok(incarnation) => (Outcome::Acknowledged, incarnation, None),
        Err(error) => (error.outcome(), None, Some(error.to_attempt_error())),
    }
}
