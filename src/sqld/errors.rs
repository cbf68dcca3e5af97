//! The errors that clients see: SQL Server's numbers, classes, states and texts.
//!
//! A [`SqlError`] is what goes over the wire in an ERROR token. Each has one constructor here, so that a number is written down once. How
//! far an error reaches ([`Reach`]) is part of it, because SQL Server ends some with the statement, some with the batch and some with
//! the connection.

use std::fmt;

use rusqlite::ErrorCode;

/// Parts an encoded error that crosses SQLite as the message of a failed function.
const SEPARATOR: char = '\u{1f}';

/// What an error ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing, not even with `XACT_ABORT`: what the batch itself says with RAISERROR.
    Nothing,
    /// The statement; the batch goes on (unless `XACT_ABORT` is on).
    Statement,
    /// The batch; its transaction stays. Such are errors of the text itself, which stop it before it does anything.
    Batch,
    /// The batch and the transaction in which it runs.
    Transaction,
    /// The connection.
    Connection,
}

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct SqlError {
    /// SQL Server's number.
    pub(crate) number: i32,
    /// Its class, also called severity.
    pub(crate) class: u8,
    /// Its state.
    pub(crate) state: u8,
    /// What it ends.
    pub(crate) reach: Reach,
    /// Its text.
    pub(crate) message: String,
}

fn error(number: i32, class: u8, state: u8, reach: Reach, message: String) -> SqlError {
    SqlError { number, class, state, reach, message }
}

impl SqlError {
    /// Text that carries the error through SQLite, which keeps only the message of a failed function.
    pub(crate) fn encoded(&self) -> String {
        let reach = match self.reach {
            Reach::Nothing => 'n',
            Reach::Statement => 's',
            Reach::Batch => 'b',
            Reach::Transaction => 't',
            Reach::Connection => 'c',
        };
        format!("{SEPARATOR}{}{SEPARATOR}{}{SEPARATOR}{}{SEPARATOR}{reach}{SEPARATOR}{}", self.number, self.class, self.state, self.message)
    }

    fn decoded(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(SEPARATOR)?.splitn(5, SEPARATOR);
        let number = parts.next()?.parse().ok()?;
        let class = parts.next()?.parse().ok()?;
        let state = parts.next()?.parse().ok()?;
        let reach = match parts.next()? {
            "n" => Reach::Nothing,
            "s" => Reach::Statement,
            "b" => Reach::Batch,
            "t" => Reach::Transaction,
            _ => Reach::Connection,
        };
        Some(error(number, class, state, reach, parts.next()?.to_owned()))
    }

    /// The error as a function of SQLite returns it.
    pub(crate) fn into_function_error(self) -> rusqlite::Error {
        rusqlite::Error::UserFunctionError(self.encoded().into())
    }
}

/// What SQLite refused, in SQL Server's words.
///
/// Constraint failures are told by their columns, which the session knows better: see [`Constraint`].
pub(crate) fn from_sqlite(failure: &rusqlite::Error) -> SqlError {
    let message = match failure {
        rusqlite::Error::SqliteFailure(_, Some(message)) | rusqlite::Error::SqlInputError { msg: message, .. } => message.clone(),
        other => other.to_string(),
    };
    if let Some(error) = SqlError::decoded(&message) {
        return error;
    }
    match failure.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => volume_full(),
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => io_failed(&message),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => corrupt(&message),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => lock_timeout(),
        _ if message.contains("integer overflow") => overflow("int"),
        _ if message.contains("cannot store TEXT value in") => error(
            245,
            16,
            1,
            Reach::Transaction,
            "Conversion failed when converting the varchar value to the data type of the column.".to_owned(),
        ),
        _ => internal(&message),
    }
}

/// A constraint that SQLite found broken, as its message tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Constraint {
    /// A key: the columns that it spans.
    Unique(Vec<String>),
    /// A column that does not take NULL.
    NotNull(String),
    /// A check, by its name.
    Check(String),
}

/// The constraint that a statement broke, if that is why it failed.
pub(crate) fn broken_constraint(failure: &rusqlite::Error) -> Option<Constraint> {
    let rusqlite::Error::SqliteFailure(_, Some(message)) = failure else { return None };
    let column = |text: &str| text.rsplit_once('.').map_or(text, |(_, column)| column).to_owned();
    if let Some(columns) = message.strip_prefix("UNIQUE constraint failed: ") {
        return Some(Constraint::Unique(columns.split(", ").map(column).collect()));
    }
    if let Some(name) = message.strip_prefix("NOT NULL constraint failed: ") {
        return Some(Constraint::NotNull(column(name)));
    }
    message.strip_prefix("CHECK constraint failed: ").map(|name| Constraint::Check(name.to_owned()))
}

/// 102.
pub(crate) fn syntax(near: &str) -> SqlError {
    error(102, 15, 1, Reach::Batch, format!("Incorrect syntax near '{near}'."))
}

/// 103.
pub(crate) fn name_too_long(name: &str, most: usize) -> SqlError {
    let start: String = name.chars().take(most).collect();
    error(103, 15, 4, Reach::Batch, format!("The identifier that starts with '{start}' is too long. Maximum length is {most}."))
}

/// 191.
pub(crate) fn nested_too_deeply() -> SqlError {
    error(
        191,
        15,
        1,
        Reach::Batch,
        "Some part of your SQL statement is nested too deeply. Rewrite the query or break it up into smaller queries.".to_owned(),
    )
}

/// 40510, which SQL Server itself uses for what an edition leaves out.
pub(crate) fn unsupported(what: impl fmt::Display) -> SqlError {
    error(40510, 16, 1, Reach::Batch, format!("Statement '{what}' is not supported in this version of SQL Server."))
}

/// 137.
pub(crate) fn unknown_variable(name: &str) -> SqlError {
    error(137, 15, 2, Reach::Batch, format!("Must declare the scalar variable \"{name}\"."))
}

/// 174.
pub(crate) fn wrong_argument_count(function: &str, wanted: usize) -> SqlError {
    error(174, 15, 1, Reach::Batch, format!("The {} function requires {wanted} argument(s).", function.to_lowercase()))
}

/// 195.
pub(crate) fn unknown_function(name: &str) -> SqlError {
    error(195, 15, 10, Reach::Batch, format!("'{name}' is not a recognized built-in function name."))
}

/// 207.
pub(crate) fn unknown_column(name: &str) -> SqlError {
    error(207, 16, 1, Reach::Batch, format!("Invalid column name '{name}'."))
}

/// 208.
pub(crate) fn unknown_object(name: &str) -> SqlError {
    error(208, 16, 1, Reach::Batch, format!("Invalid object name '{name}'."))
}

/// 209.
pub(crate) fn ambiguous_column(name: &str) -> SqlError {
    error(209, 16, 1, Reach::Batch, format!("Ambiguous column name '{name}'."))
}

/// 213.
pub(crate) fn column_count_differs() -> SqlError {
    error(213, 16, 1, Reach::Batch, "Column name or number of supplied values does not match table definition.".to_owned())
}

/// 205.
pub(crate) fn set_operands_differ() -> SqlError {
    error(
        205,
        16,
        1,
        Reach::Batch,
        "All queries combined using a UNION, INTERSECT or EXCEPT operator must have an equal number of expressions in their target lists."
            .to_owned(),
    )
}

/// 226.
pub(crate) fn not_in_a_transaction(statement: &str) -> SqlError {
    error(226, 16, 6, Reach::Batch, format!("{statement} statement not allowed within multi-statement transaction."))
}

/// 229.
pub(crate) fn select_denied(object: &str, database: &str, schema: &str) -> SqlError {
    error(
        229,
        14,
        5,
        Reach::Statement,
        format!("The SELECT permission was denied on the object '{object}', database '{database}', schema '{schema}'."),
    )
}

/// 241.
pub(crate) fn not_a_date() -> SqlError {
    error(241, 16, 1, Reach::Transaction, "Conversion failed when converting date and/or time from character string.".to_owned())
}

/// 245.
pub(crate) fn conversion_failed(from: &str, value: &str, to: &str) -> SqlError {
    error(245, 16, 1, Reach::Transaction, format!("Conversion failed when converting the {from} value '{value}' to data type {to}."))
}

/// 281.
pub(crate) fn unknown_style(style: i64, from: &str) -> SqlError {
    error(281, 16, 1, Reach::Batch, format!("{style} is not a valid style number when converting from {from} to a character string."))
}

/// 297.
pub(crate) fn no_permission() -> SqlError {
    error(297, 16, 1, Reach::Statement, "The user does not have permission to perform this action.".to_owned())
}

/// 300.
pub(crate) fn view_server_state_denied() -> SqlError {
    error(300, 14, 1, Reach::Statement, "VIEW SERVER STATE permission was denied on object 'server', database 'master'.".to_owned())
}

/// 515.
pub(crate) fn null_refused(column: &str, table: &str, verb: &str) -> SqlError {
    error(
        515,
        16,
        2,
        Reach::Statement,
        format!("Cannot insert the value NULL into column '{column}', table '{table}'; column does not allow nulls. {verb} fails."),
    )
}

/// 529.
pub(crate) fn conversion_not_allowed(from: &str, to: &str) -> SqlError {
    error(529, 16, 2, Reach::Batch, format!("Explicit conversion from data type {from} to {to} is not allowed."))
}

/// 544.
pub(crate) fn identity_given(table: &str) -> SqlError {
    error(
        544,
        16,
        1,
        Reach::Statement,
        format!("Cannot insert explicit value for identity column in table '{table}' when IDENTITY_INSERT is set to OFF."),
    )
}

/// 547.
pub(crate) fn check_failed(verb: &str, constraint: &str, database: &str, table: &str) -> SqlError {
    error(
        547,
        16,
        0,
        Reach::Statement,
        format!(
            "The {verb} statement conflicted with the CHECK constraint \"{constraint}\". The conflict occurred in database \"{database}\", \
             table \"dbo.{table}\"."
        ),
    )
}

/// 911.
pub(crate) fn unknown_database(name: &str) -> SqlError {
    error(911, 16, 1, Reach::Batch, format!("Database '{name}' does not exist. Make sure that the name is entered correctly."))
}

/// 921.
pub(crate) fn not_recovered_yet(name: &str) -> SqlError {
    error(921, 14, 2, Reach::Batch, format!("Database '{name}' has not been recovered yet. Wait and try again."))
}

/// 1105.
pub(crate) fn volume_full() -> SqlError {
    error(
        1105,
        17,
        2,
        Reach::Transaction,
        "Could not allocate space because the 'PRIMARY' filegroup is full. Create disk space by deleting unneeded files, dropping objects \
         in the filegroup, adding additional files to the filegroup, or setting autogrowth on for existing files in the filegroup."
            .to_owned(),
    )
}

/// 1222.
pub(crate) fn lock_timeout() -> SqlError {
    error(1222, 16, 45, Reach::Statement, "Lock request time out period exceeded.".to_owned())
}

/// 1750, which here carries its cause.
pub(crate) fn constraint_not_created(why: &str) -> SqlError {
    error(1750, 16, 0, Reach::Batch, format!("Could not create constraint or index. {why}"))
}

/// 1801.
pub(crate) fn database_exists(name: &str) -> SqlError {
    error(1801, 16, 3, Reach::Batch, format!("Database '{name}' already exists. Choose a different database name."))
}

/// 2627.
pub(crate) fn key_violated(kind: &str, constraint: &str, table: &str, key: Option<&str>) -> SqlError {
    let key = key.map(|key| format!(" The duplicate key value is ({key}).")).unwrap_or_default();
    error(
        2627,
        14,
        1,
        Reach::Statement,
        format!("Violation of {kind} constraint '{constraint}'. Cannot insert duplicate key in object 'dbo.{table}'.{key}"),
    )
}

/// 2601.
pub(crate) fn index_violated(index: &str, table: &str, key: Option<&str>) -> SqlError {
    let key = key.map(|key| format!(" The duplicate key value is ({key}).")).unwrap_or_default();
    error(
        2601,
        14,
        1,
        Reach::Statement,
        format!("Cannot insert duplicate key row in object 'dbo.{table}' with unique index '{index}'.{key}"),
    )
}

/// 2628.
pub(crate) fn would_be_truncated(table: &str, column: &str) -> SqlError {
    error(2628, 16, 1, Reach::Statement, format!("String or binary data would be truncated in table '{table}', column '{column}'."))
}

/// 8152, for a value that is longer than the type of its column says.
pub(crate) fn does_not_fit() -> SqlError {
    error(8152, 16, 2, Reach::Statement, "String or binary data would be truncated.".to_owned())
}

/// 2705.
pub(crate) fn column_named_twice(column: &str, table: &str) -> SqlError {
    error(
        2705,
        16,
        3,
        Reach::Batch,
        format!("Column names in each table must be unique. Column name '{column}' in table '{table}' is specified more than once."),
    )
}

/// 2714.
pub(crate) fn object_exists(name: &str) -> SqlError {
    error(2714, 16, 6, Reach::Batch, format!("There is already an object named '{name}' in the database."))
}

/// 2715.
pub(crate) fn unknown_type(name: &str) -> SqlError {
    error(2715, 16, 6, Reach::Batch, format!("Cannot find data type {name}."))
}

/// 2760.
pub(crate) fn unknown_schema(name: &str) -> SqlError {
    error(
        2760,
        16,
        1,
        Reach::Batch,
        format!("The specified schema name \"{name}\" either does not exist or you do not have permission to use it."),
    )
}

/// 2812.
pub(crate) fn unknown_procedure(name: &str) -> SqlError {
    error(2812, 16, 62, Reach::Statement, format!("Could not find stored procedure '{name}'."))
}

/// 3701.
pub(crate) fn cannot_drop(kind: &str, name: &str) -> SqlError {
    error(
        3701,
        11,
        5,
        Reach::Statement,
        format!("Cannot drop the {kind} '{name}', because it does not exist or you do not have permission."),
    )
}

/// 3702.
pub(crate) fn database_in_use(name: &str) -> SqlError {
    error(3702, 16, 4, Reach::Batch, format!("Cannot drop database \"{name}\" because it is currently in use."))
}

/// 3708.
pub(crate) fn system_database(name: &str) -> SqlError {
    error(3708, 16, 4, Reach::Batch, format!("Cannot drop the database '{name}' because it is a system database."))
}

/// 3902.
pub(crate) fn nothing_to_commit() -> SqlError {
    error(3902, 16, 1, Reach::Statement, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.".to_owned())
}

/// 3903.
pub(crate) fn nothing_to_roll_back() -> SqlError {
    error(3903, 16, 1, Reach::Statement, "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.".to_owned())
}

/// 628.
pub(crate) fn savepoint_without_transaction() -> SqlError {
    error(628, 16, 0, Reach::Statement, "Cannot issue SAVE TRANSACTION when there is no active transaction.".to_owned())
}

/// 6401.
pub(crate) fn unknown_savepoint(name: &str) -> SqlError {
    error(6401, 16, 1, Reach::Statement, format!("Cannot roll back {name}. No transaction or savepoint of that name was found."))
}

/// 3930.
pub(crate) fn doomed() -> SqlError {
    error(
        3930,
        16,
        1,
        Reach::Statement,
        "The current transaction cannot be committed and cannot support operations that write to the log file. Roll back the transaction."
            .to_owned(),
    )
}

/// 3998, for a transaction that the storage gave up by itself.
pub(crate) fn transaction_lost() -> SqlError {
    error(
        3998,
        16,
        1,
        Reach::Transaction,
        "Uncommittable transaction is detected at the end of the batch. The transaction is rolled back.".to_owned(),
    )
}

/// 4060.
pub(crate) fn cannot_open_database(name: &str) -> SqlError {
    error(4060, 11, 1, Reach::Connection, format!("Cannot open database \"{name}\" requested by the login. The login failed."))
}

/// 4104.
pub(crate) fn unbound_identifier(name: &str) -> SqlError {
    error(4104, 16, 1, Reach::Batch, format!("The multi-part identifier \"{name}\" could not be bound."))
}

/// 6005.
pub(crate) fn shutting_down() -> SqlError {
    error(6005, 14, 1, Reach::Connection, "SHUTDOWN is in progress.".to_owned())
}

/// 7983.
pub(crate) fn dbcc_denied(user: &str, command: &str, database: &str) -> SqlError {
    error(
        7983,
        14,
        36,
        Reach::Statement,
        format!("User '{user}' does not have permission to run DBCC {command} for database '{database}'."),
    )
}

/// 2526, for a DBCC command that is not known here.
pub(crate) fn unknown_dbcc(command: &str) -> SqlError {
    error(
        2526,
        16,
        3,
        Reach::Batch,
        format!("Incorrect DBCC statement. Check the documentation for the correct DBCC syntax and options. ({command})"),
    )
}

/// 8928.
pub(crate) fn page_damaged(detail: &str) -> SqlError {
    error(8928, 16, 1, Reach::Statement, format!("The database could not be processed. See other errors for details. {detail}"))
}

/// 8009.
pub(crate) fn unknown_wire_type(parameter: usize, name: &str, code: u8) -> SqlError {
    error(
        8009,
        16,
        1,
        Reach::Batch,
        format!(
            "The incoming tabular data stream (TDS) remote procedure call (RPC) protocol stream is incorrect. Parameter {parameter} \
             (\"{name}\"): Data type 0x{code:02X} is unknown."
        ),
    )
}

/// 8114.
pub(crate) fn cannot_convert(from: &str, to: &str) -> SqlError {
    error(8114, 16, 5, Reach::Transaction, format!("Error converting data type {from} to {to}."))
}

/// 8115.
pub(crate) fn overflow(ty: &str) -> SqlError {
    error(8115, 16, 2, Reach::Statement, format!("Arithmetic overflow error converting expression to data type {ty}."))
}

/// 8134.
pub(crate) fn divide_by_zero() -> SqlError {
    error(8134, 16, 1, Reach::Statement, "Divide by zero error encountered.".to_owned())
}

/// 201.
pub(crate) fn parameter_missing(procedure: &str, parameter: &str) -> SqlError {
    error(
        201,
        16,
        4,
        Reach::Statement,
        format!("Procedure or function '{procedure}' expects parameter '{parameter}', which was not supplied."),
    )
}

/// 8169.
pub(crate) fn not_a_uniqueidentifier() -> SqlError {
    error(8169, 16, 2, Reach::Transaction, "Conversion failed when converting from a character string to uniqueidentifier.".to_owned())
}

/// 8179.
pub(crate) fn unknown_prepared_statement(handle: i64) -> SqlError {
    error(8179, 16, 5, Reach::Statement, format!("Could not find prepared statement with handle {handle}."))
}

/// 4002.
pub(crate) fn malformed_request(what: &str) -> SqlError {
    error(
        4002,
        16,
        1,
        Reach::Connection,
        format!("The incoming tabular data stream (TDS) protocol stream is incorrect. The stream ended unexpectedly. ({what})"),
    )
}

/// 17809.
pub(crate) fn too_many_connections(limit: usize) -> SqlError {
    error(
        17809,
        20,
        1,
        Reach::Connection,
        format!("Could not connect because the maximum number of '{limit}' user connections has already been reached."),
    )
}

/// 18456.
pub(crate) fn login_failed(user: &str) -> SqlError {
    error(18456, 14, 1, Reach::Connection, format!("Login failed for user '{user}'."))
}

/// 40515.
pub(crate) fn other_database(name: &str) -> SqlError {
    error(
        40515,
        15,
        1,
        Reach::Batch,
        format!("Reference to database and/or server name in '{name}' is not supported in this version of SQL Server."),
    )
}

/// 40508.
pub(crate) fn cannot_switch_database() -> SqlError {
    error(
        40508,
        16,
        1,
        Reach::Statement,
        "USE statement is not supported to switch between databases while a transaction is open.".to_owned(),
    )
}

/// 823.
fn io_failed(detail: &str) -> SqlError {
    error(823, 24, 2, Reach::Connection, format!("The operating system returned an error to SQL Server during a read or write. ({detail})"))
}

/// 824.
fn corrupt(detail: &str) -> SqlError {
    error(824, 24, 2, Reach::Connection, format!("SQL Server detected a logical consistency-based I/O error. ({detail})"))
}

/// 8630, for what has no number of its own.
pub(crate) fn internal(detail: &str) -> SqlError {
    error(8630, 16, 1, Reach::Batch, format!("Internal Query Processor Error: the stand-in could not run the statement. ({detail})"))
}

/// An error that the batch itself raised.
pub(crate) fn raised(number: i32, class: u8, state: u8, message: String) -> SqlError {
    error(number, class, state, Reach::Statement, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_its_way_through_sqlite() {
        let before = divide_by_zero();
        let failure = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(1), Some(before.encoded()));
        assert_eq!(from_sqlite(&failure), before);
    }

    #[test]
    fn a_broken_key_is_told_by_its_columns() {
        let failure = rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CONSTRAINT),
            Some("UNIQUE constraint failed: t.a, t.b".to_owned()),
        );
        assert_eq!(broken_constraint(&failure), Some(Constraint::Unique(vec!["a".to_owned(), "b".to_owned()])));
    }
}
