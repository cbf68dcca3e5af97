//! The SQL client: connections through the service address, each call under a deadline.
//!
//! An error always says at which [`Stage`] it happened, and from that and the server's number follows whether the write may have been
//! applied ([`SqlError::outcome`]). A session that met a deadline is never used again: its stream may be in the middle of a reply.

use std::{fmt, future::Future, time::Duration};

use futures::{TryStreamExt as _, stream::BoxStream};
use tiberius::{AuthMethod, Client, Config, EncryptionLevel, error::IoErrorKind};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt as _};

use super::port;
use crate::event::{Answer, AttemptError, Outcome, Stage};

/// A password. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes it as given.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one who must send or store it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Where the database is found, and as whom.
#[derive(Clone, Debug)]
pub struct Server {
    /// The stable service address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The login.
    pub user: String,
    /// Its password.
    pub password: Password,
    /// What the server sees as `program_name`: it tells our sessions from others.
    pub application: String,
}

/// A connection that is logged in.
#[derive(Debug)]
pub struct Session {
    client: Client<Compat<TcpStream>>,
}

/// A call to the server that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {kind}", self.stage.as_str())]
pub struct SqlError {
    /// What was being done.
    pub stage: Stage,
    /// What happened.
    pub kind: SqlErrorKind,
}

/// What happened to a call to the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlErrorKind {
    /// The deadline passed.
    #[error("no answer within the deadline")]
    Deadline,
    /// The connection broke or was refused.
    #[error("{0}")]
    Broken(String),
    /// The server answered with an error.
    #[error("server error {code} (severity {class}): {text}")]
    Server {
        /// Its number.
        code: u32,
        /// Its severity.
        class: u8,
        /// Its text.
        text: String,
    },
}

/// Statement errors that abort the transaction under `XACT_ABORT` have these severities; above, the connection ends with them and nobody
/// knows how far the commit came.
const ROLLED_BACK: std::ops::RangeInclusive<u8> = 11..=16;

/// "SHUTDOWN is in progress": it can also hit a commit that is already on its way.
const SHUTDOWN_IN_PROGRESS: u32 = 6005;

impl SqlError {
    /// What the client knows of a write that ended with this error.
    ///
    /// Refused only if no byte of the batch was sent, or the server's error proves that the transaction (which runs under `XACT_ABORT`)
    /// was rolled back.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (self.stage, &self.kind) {
            (Stage::Connect | Stage::Login, _) => Outcome::Refused,
            (Stage::Write, SqlErrorKind::Server { code, class, .. }) if ROLLED_BACK.contains(class) && *code != SHUTDOWN_IN_PROGRESS => {
                Outcome::Refused
            }
            (Stage::Write, _) => Outcome::InDoubt,
        }
    }

    /// Whether the session is of no use any more.
    #[must_use]
    pub const fn ends_session(&self) -> bool {
        !matches!(&self.kind, SqlErrorKind::Server { class, .. } if *class < 20)
    }

    /// The server's number, if it answered.
    #[must_use]
    pub const fn code(&self) -> Option<u32> {
        match self.kind {
            SqlErrorKind::Server { code, .. } => Some(code),
            SqlErrorKind::Deadline | SqlErrorKind::Broken(_) => None,
        }
    }

    /// The error as it stands in the record.
    #[must_use]
    pub fn to_attempt_error(&self) -> AttemptError {
        AttemptError { stage: self.stage, code: self.code(), text: self.kind.to_string() }
    }

    fn new(stage: Stage, error: tiberius::error::Error) -> Self {
        let kind = match error {
            tiberius::error::Error::Server(token) => {
                SqlErrorKind::Server { code: token.code(), class: token.class(), text: token.message().to_owned() }
            }
            tiberius::error::Error::Io { kind: IoErrorKind::TimedOut, .. } => SqlErrorKind::Deadline,
            other => SqlErrorKind::Broken(other.to_string()),
        };
        Self { stage, kind }
    }
}

/// Waits for a call to the server, but not beyond the deadline.
fn bounded<T>(
    stage: Stage,
    deadline: Instant,
    call: impl Future<Output = Result<T, tiberius::error::Error>>,
) -> impl Future<Output = Result<T, SqlError>> {
    // On the heap: tiberius' futures take up to 30 kB, and every future that calls the server would hold one.
    let call = timeout_at(deadline, Box::pin(call));
    async move {
        match call.await {
            Ok(result) => result.map_err(|error| SqlError::new(stage, error)),
            Err(_) => Err(SqlError { stage, kind: SqlErrorKind::Deadline }),
        }
    }
}

impl Server {
    /// Opens a connection and logs in to `database`.
    ///
    /// # Errors
    /// With [`Stage::Connect`] or [`Stage::Login`]: nothing of a statement was sent.
    pub async fn connect(&self, database: &str, deadline: Instant) -> Result<Session, SqlError> {
        let tcp = timeout_at(deadline, port::connect(&self.host, self.port))
            .await
            .map_err(|_| SqlErrorKind::Deadline)
            .and_then(|result| result.map_err(|error| SqlErrorKind::Broken(error.to_string())))
            .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp).map_err(|error| SqlErrorKind::Broken(error.to_string())))
            .map_err(|kind| SqlError { stage: Stage::Connect, kind })?;
        let client = bounded(Stage::Login, deadline, Client::connect(self.config(database), tcp.compat_write())).await?;
        Ok(Session { client })
    }

    fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host(&self.host);
        config.port(self.port);
        config.database(database);
        config.application_name(&self.application);
        config.authentication(AuthMethod::sql_server(&self.user, self.password.reveal()));
        config.encryption(EncryptionLevel::Required);
        // The server's certificate is self-made in every target that we deploy; who it is, is not what is tested here.
        config.trust_cert();
        // Each call has a deadline of its own, set by the caller.
        config.handshake_timeout(None);
        config.command_timeout(None);
        config
    }
}

impl Session {
    /// Runs a batch with parameters and returns the rows of its last result set. `Ok` means that the server's final "done" has arrived.
    pub async fn query(&mut self, sql: &str, params: &[&dyn tiberius::ToSql], deadline: Instant) -> Result<Vec<tiberius::Row>, SqlError> {
        bounded(Stage::Write, deadline, async {
            let results = self.client.query(sql, params).await?.into_results().await?;
            Ok(results.into_iter().last().unwrap_or_default())
        })
        .await
    }

    /// Runs a batch without parameters, as one text.
    pub async fn batch(&mut self, sql: &str, deadline: Instant) -> Result<Vec<tiberius::Row>, SqlError> {
        bounded(Stage::Write, deadline, async {
            let results = self.client.simple_query(sql).await?.into_results().await?;
            Ok(results.into_iter().last().unwrap_or_default())
        })
        .await
    }

    /// Runs a query whose rows are taken one by one, in constant memory. `stall` is the longest silence before the first.
    pub async fn stream(&mut self, sql: &str, stall: Duration) -> Result<Rows<'_>, SqlError> {
        let stream = bounded(Stage::Write, Instant::now() + stall, self.client.simple_query(sql)).await?;
        Ok(Rows(stream.into_row_stream()))
    }

    /// Asks for one text that this server may not have, or may not let us see.
    ///
    /// # Errors
    /// Only if the connection or the deadline failed. A server that answers with an error has answered: [`Answer::Unavailable`].
    pub async fn ask(&mut self, sql: &str, deadline: Instant) -> Result<Answer<String>, SqlError> {
        match self.batch(sql, deadline).await {
            Ok(rows) => Ok(match rows.first().and_then(|row| row.try_get::<&str, _>(0).ok().flatten()) {
                Some(text) => Answer::Known(text.to_owned()),
                None => Answer::Unavailable("the server answered with nothing".into()),
            }),
            Err(error) if !error.ends_session() => Ok(Answer::Unavailable(error.kind.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Ends the session in good order.
    pub async fn close(self, deadline: Instant) -> Result<(), SqlError> {
        bounded(Stage::Write, deadline, self.client.close()).await
    }
}

/// The rows of a query, as they come.
pub struct Rows<'a>(BoxStream<'a, Result<tiberius::Row, tiberius::error::Error>>);

impl Rows<'_> {
    /// The next one; `None`: that was all. `stall` is the longest silence before it.
    pub async fn next(&mut self, stall: Duration) -> Result<Option<tiberius::Row>, SqlError> {
        bounded(Stage::Write, Instant::now() + stall, self.0.try_next()).await
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn server(code: u32, class: u8) -> SqlErrorKind {
        SqlErrorKind::Server { code, class, text: "…".into() }
    }

    #[rstest]
    #[case::nothing_was_sent(Stage::Connect, SqlErrorKind::Broken("refused".into()), Outcome::Refused)]
    #[case::the_login_hung(Stage::Login, SqlErrorKind::Deadline, Outcome::Refused)]
    #[case::the_database_recovers(Stage::Login, server(4060, 11), Outcome::Refused)]
    #[case::the_key_is_taken(Stage::Write, server(2627, 14), Outcome::Refused)]
    #[case::chosen_as_deadlock_victim(Stage::Write, server(1205, 13), Outcome::Refused)]
    #[case::shut_down_under_the_commit(Stage::Write, server(6005, 14), Outcome::InDoubt)]
    #[case::the_log_write_failed(Stage::Write, server(9001, 21), Outcome::InDoubt)]
    #[case::the_connection_broke(Stage::Write, SqlErrorKind::Broken("reset".into()), Outcome::InDoubt)]
    #[case::the_reply_never_came(Stage::Write, SqlErrorKind::Deadline, Outcome::InDoubt)]
    fn an_error_tells_whether_the_write_may_be_there(#[case] stage: Stage, #[case] kind: SqlErrorKind, #[case] outcome: Outcome) {
        assert_eq!(SqlError { stage, kind }.outcome(), outcome);
    }

    #[test]
    fn a_password_is_not_printed() {
        assert!(!format!("{:?}", Password::new("s3cret".into())).contains("s3cret"));
    }
}
