//! The tables of a trial.
//!
//! Each trial has tables of its own, so that a final read is the whole table and a row that strayed cannot hide behind a `WHERE`:
//! `keyed` with a primary key, `heap` without one (where a row can be applied twice, and whose identity column tells the server's order),
//! and `mark` with one row that tells the volume from any other.

use tokio::time::Instant;

use crate::event::{Answer, Incarnation, RowKey};

use super::{Row, Server, Session, SqlError, TrialKey};

/// The database that all tables are in.
pub const DATABASE: &str = "comeback";

/// `sqlserver_start_time` as text, milliseconds included; it names the life of the server that took a row.
const START_TIME: &str = "SELECT CONVERT(varchar(33), sqlserver_start_time, 126) FROM sys.dm_os_sys_info";

/// What a server answers that acknowledges every commit before it is stored.
pub const DELAYED: &str = "FORCED";

/// "Invalid object name".
const NO_SUCH_OBJECT: u32 = 208;

/// The tables of one trial.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The trial; its key makes the rows.
    pub trial: TrialKey,
    suffix: String,
    fills_incarnation: bool,
}

impl Tables {
    /// The tables of trial `number` of the run `run`, which must be of letters, digits and dashes.
    #[must_use]
    pub fn new(run: &str, number: u32) -> Self {
        let suffix = format!("{}_{number}", run.replace('-', "_"));
        Self { trial: TrialKey(format!("{run}/{number}")), suffix, fills_incarnation: true }
    }

    /// The full name of a table.
    #[must_use]
    pub fn name(&self, table: &str) -> String {
        format!("dbo.[{table}_{}]", self.suffix)
    }

    /// Whether commits in the database of the tables are acknowledged before they are stored (`DISABLED`, `ALLOWED`, `FORCED`); of the database that it would be
    /// made after, where it is not there yet.
    ///
    /// # Errors
    /// Only if the connection or the deadline failed.
    pub async fn delayed_durability(session: &mut Session, deadline: Instant) -> Result<Answer<String>, SqlError> {
        let of = |database: &str| format!("SELECT delayed_durability_desc FROM sys.databases WHERE name = N'{database}'");
        match session.ask(&of(DATABASE), deadline).await? {
            Answer::Unavailable(_) => session.ask(&of("model"), deadline).await,
            known @ Answer::Known(_) => Ok(known),
        }
    }

    /// Creates what is not there yet, stores the volume's mark, and finds out whether the server can fill in its start time.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses; all of it can be repeated.
    pub async fn create(&mut self, server: &Server, mark: &str, deadline: Instant) -> Result<(), SqlError> {
        let mut master = server.connect("master", deadline).await?;
        master.batch(&format!("IF DB_ID(N'{DATABASE}') IS NULL CREATE DATABASE [{DATABASE}]"), deadline).await?;
        master.close(deadline).await?;

        let mut session = server.connect(DATABASE, deadline).await?;
        let columns = "writer int NOT NULL, seq bigint NOT NULL, payload varchar(64) NOT NULL, checksum bigint NOT NULL, incarnation varchar(40) NULL";
        for (table, definition) in [
            ("keyed", format!("{columns}, CONSTRAINT [pk_{}] PRIMARY KEY (writer, seq)", self.suffix)),
            ("heap", format!("id bigint IDENTITY(1,1) NOT NULL, {columns}")),
            ("mark", "mark varchar(64) NOT NULL".to_owned()),
        ] {
            let name = self.name(table);
            session.batch(&format!("IF OBJECT_ID(N'{name}', N'U') IS NULL CREATE TABLE {name} ({definition})"), deadline).await?;
        }
        let name = self.name("mark");
        session.query(&format!("DELETE FROM {name}; INSERT INTO {name} (mark) VALUES (@P1)"), &[&mark], deadline).await?;
        self.fills_incarnation = session.ask(START_TIME, deadline).await?.known().is_some();
        session.close(deadline).await
    }

    /// Writes these rows in one transaction, one row a table each, and returns the server's start time as it filled it in.
    ///
    /// # Errors
    /// See [`SqlError::outcome`].
    pub async fn write(&self, session: &mut Session, keys: &[RowKey], deadline: Instant) -> Result<Option<Incarnation>, SqlError> {
        let rows: Vec<Row> = keys.iter().map(|key| Row::of(&self.trial, *key)).collect();
        let columns: Vec<(i32, i64)> = keys
            .iter()
            .map(|key| {
                let writer = i32::try_from(key.writer).expect("there are few writers");
                (writer, i64::try_from(key.seq).expect("nobody writes 2^63 rows"))
            })
            .collect();
        let mut params: Vec<&dyn tiberius::ToSql> = Vec::with_capacity(rows.len() * 4);
        for (row, (writer, seq)) in rows.iter().zip(&columns) {
            params.extend([writer as &dyn tiberius::ToSql, seq, &row.payload, &row.checksum]);
        }
        let answer = session.query(&self.insert(rows.len()), &params, deadline).await?;
        let incarnation = answer.first().and_then(|row| row.try_get::<&str, _>(0).ok().flatten());
        Ok(incarnation.map(|text| Incarnation(text.to_owned())))
    }

    fn insert(&self, rows: usize) -> String {
        let incarnation = if self.fills_incarnation { format!("({START_TIME})") } else { "NULL".to_owned() };
        let values = (0..rows)
            .map(|row| {
                let p = row * 4;
                format!("(@P{}, @P{}, @P{}, @P{}, @incarnation)", p + 1, p + 2, p + 3, p + 4)
            })
            .collect::<Vec<_>>()
            .join(", ");
        let columns = "(writer, seq, payload, checksum, incarnation)";
        format!(
            "SET NOCOUNT ON; SET XACT_ABORT ON; DECLARE @incarnation varchar(40) = {incarnation}; BEGIN TRANSACTION; \
             INSERT INTO {keyed} {columns} VALUES {values}; INSERT INTO {heap} {columns} VALUES {values}; COMMIT TRANSACTION; \
             SELECT @incarnation AS incarnation",
            keyed = self.name("keyed"),
            heap = self.name("heap"),
        )
    }

    /// Whether the row is in both tables, asked on a new connection.
    pub async fn holds(&self, server: &Server, key: RowKey, deadline: Instant) -> Result<bool, SqlError> {
        let mut session = server.connect(DATABASE, deadline).await?;
        let sql = format!(
            "SELECT (SELECT COUNT(*) FROM {keyed} WHERE writer = @P1 AND seq = @P2 AND payload = @P3), \
             (SELECT COUNT(*) FROM {heap} WHERE writer = @P1 AND seq = @P2 AND payload = @P3)",
            keyed = self.name("keyed"),
            heap = self.name("heap"),
        );
        let writer = i32::try_from(key.writer).expect("there are few writers");
        let seq = i64::try_from(key.seq).expect("nobody writes 2^63 rows");
        let rows = session.query(&sql, &[&writer, &seq, &Row::of(&self.trial, key).payload], deadline).await?;
        session.close(deadline).await?;
        let count = |column: usize| rows.first().and_then(|row| row.try_get::<i32, _>(column).ok().flatten());
        Ok(count(0) > Some(0) && count(1) > Some(0))
    }

    /// What the server returns as the volume's mark. `Known(None)`: it answers, and mark, table or database are not there, so it serves another
    /// volume.
    pub async fn read_mark(&self, server: &Server, deadline: Instant) -> Answer<Option<String>> {
        match self.try_read_mark(server, deadline).await {
            Ok(answer) => answer,
            Err(error) => Answer::Unavailable(error.to_string()),
        }
    }

    /// As [`read_mark`](Self::read_mark), for one who wants to know why there was no answer.
    pub async fn try_read_mark(&self, server: &Server, deadline: Instant) -> Result<Answer<Option<String>>, SqlError> {
        let mut session = match server.connect(DATABASE, deadline).await {
            Ok(session) => session,
            // The server does not say to a stranger whether the database is not there or may not be used: `master` knows.
            Err(error) if error.code().is_some() && !exists(server, deadline).await? => return Ok(Answer::Known(None)),
            Err(error) => return Err(error),
        };
        let result = session.batch(&format!("SELECT mark FROM {}", self.name("mark")), deadline).await;
        let answer = match result {
            Ok(rows) => Answer::Known(rows.first().and_then(|row| row.try_get::<&str, _>(0).ok().flatten()).map(str::to_owned)),
            Err(error) if error.code() == Some(NO_SUCH_OBJECT) => Answer::Known(None),
            Err(error) => return Err(error),
        };
        session.close(deadline).await?;
        Ok(answer)
    }

    /// The server's start time.
    pub async fn start_time(session: &mut Session, deadline: Instant) -> Result<Answer<String>, SqlError> {
        session.ask(START_TIME, deadline).await
    }

    /// The query that reads a table from end to end. The columns: writer, seq, payload, checksum, incarnation, and the server's order
    /// where the table has one.
    pub(super) fn read_all(&self, table: &str) -> String {
        let order = if table == "heap" { ", id" } else { "" };
        format!("SELECT writer, seq, payload, checksum, incarnation{order} FROM {} ORDER BY writer, seq{order}", self.name(table))
    }
}

/// Drops the tables that runs other than this one have left, and returns their names.
///
/// A cluster outlives its runs. What a run wrote stays until the next one begins, so that whoever doubts a verdict can still look; it is never
/// the run that made them which takes its own evidence away.
///
/// # Errors
/// If the server cannot be reached, or refuses. A server without our database has none of them.
pub async fn drop_earlier(server: &Server, run: &str, deadline: Instant) -> Result<Vec<String>, SqlError> {
    if !exists(server, deadline).await? {
        return Ok(Vec::new());
    }
    let mut session = server.connect(DATABASE, deadline).await?;
    let rows = session.batch("SELECT name FROM sys.tables ORDER BY name", deadline).await?;
    let names = rows.iter().filter_map(|row| row.try_get::<&str, _>(0).ok().flatten().map(str::to_owned));
    let earlier: Vec<String> = names.filter(|name| run_of(name).is_some_and(|of| of != run.replace('-', "_"))).collect();
    for name in &earlier {
        session.batch(&format!("DROP TABLE dbo.[{name}]"), deadline).await?;
    }
    session.close(deadline).await?;
    Ok(earlier)
}

/// The run that a table of ours belongs to; `None`: it is nobody's.
fn run_of(name: &str) -> Option<&str> {
    let suffix = ["keyed_", "heap_", "mark_"].iter().find_map(|kind| name.strip_prefix(kind))?;
    let (run, trial) = suffix.rsplit_once('_')?;
    let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (word(run) && !trial.is_empty() && trial.bytes().all(|byte| byte.is_ascii_digit())).then_some(run)
}

/// Whether the server has our database.
async fn exists(server: &Server, deadline: Instant) -> Result<bool, SqlError> {
    let mut master = server.connect("master", deadline).await?;
    let rows = master.query("SELECT name FROM sys.databases WHERE name = @P1", &[&DATABASE], deadline).await?;
    master.close(deadline).await?;
    Ok(!rows.is_empty())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::of_a_run("keyed_0a1b2c3d_1", Some("0a1b2c3d"))]
    #[case::of_a_run_with_a_dash("heap_my_run_12", Some("my_run"))]
    #[case::without_a_trial("mark_0a1b2c3d", None)]
    #[case::somebody_else_s("customers_0a1b2c3d_1", None)]
    #[case::a_name_that_would_break_out("keyed_x]; DROP TABLE y--_1", None)]
    fn a_table_of_ours_names_its_run(#[case] name: &str, #[case] expected: Option<&str>) {
        assert_eq!(run_of(name), expected);
    }

    #[test]
    fn the_names_that_are_made_are_the_names_that_are_known() {
        for run in ["0a1b2c3d", "my-run"] {
            for table in ["keyed", "heap", "mark"] {
                let name = Tables::new(run, 3).name(table);
                let bare = name.strip_prefix("dbo.[").and_then(|name| name.strip_suffix(']')).unwrap();
                assert_eq!(run_of(bare), Some(run.replace('-', "_").as_str()));
            }
        }
    }
}
