//! What a database holds: tables, columns and keys, kept in tables of its own beside the rows.
//!
//! SQLite's own schema knows neither T-SQL's types nor the names of constraints, so each database carries `$tables`, `$columns` and `$keys`.
//! They change in the same transaction as the tables that they describe.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::types::SqlType;

/// The names of the tables that describe the others begin so.
pub(crate) const INTERNAL_PREFIX: char = '$';
/// The object id of the first table; SQL Server's own objects have the numbers below.
const FIRST_OBJECT_ID: i64 = 100_000_000;

const CREATE: &str = r#"
    CREATE TABLE IF NOT EXISTS "$tables" (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL COLLATE NOCASE UNIQUE,
        created TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS "$columns" (
        table_id INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        name TEXT NOT NULL COLLATE NOCASE,
        type TEXT NOT NULL,
        nullable INTEGER NOT NULL,
        identity INTEGER NOT NULL,
        default_text TEXT,
        PRIMARY KEY (table_id, ordinal)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS "$keys" (
        table_id INTEGER NOT NULL,
        name TEXT NOT NULL COLLATE NOCASE,
        kind TEXT NOT NULL,
        columns TEXT NOT NULL,
        PRIMARY KEY (table_id, name)
    ) STRICT;
"#;

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// Its type.
    pub(crate) ty: SqlType,
    /// Whether it takes NULL.
    pub(crate) nullable: bool,
    /// Whether the server numbers it.
    pub(crate) identity: bool,
    /// The T-SQL expression for rows that do not give a value.
    pub(crate) default: Option<String>,
}

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// PRIMARY KEY
    Primary,
    /// UNIQUE
    Unique,
    /// A unique index.
    UniqueIndex,
    /// An index that allows duplicates.
    Index,
}

impl KeyKind {
    const fn code(self) -> &'static str {
        match self {
            Self::Primary => "PK",
            Self::Unique => "UQ",
            Self::UniqueIndex => "UX",
            Self::Index => "IX",
        }
    }

    fn from_code(code: &str) -> Self {
        match code {
            "PK" => Self::Primary,
            "UQ" => Self::Unique,
            "UX" => Self::UniqueIndex,
            _ => Self::Index,
        }
    }

    /// Whether it keeps rows apart.
    pub(crate) const fn is_unique(self) -> bool {
        !matches!(self, Self::Index)
    }
}

/// A key or an index of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: KeyKind,
    /// The columns that it spans.
    pub(crate) columns: Vec<String>,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    /// Its number within the database.
    pub(crate) id: i64,
    /// Its name.
    pub(crate) name: String,
    /// When it was created.
    pub(crate) created: String,
    /// Its columns, in order.
    pub(crate) columns: Vec<Column>,
    /// Its keys and indexes.
    pub(crate) keys: Vec<Key>,
}

impl Table {
    /// The number that `OBJECT_ID` gives.
    pub(crate) fn object_id(&self) -> i64 {
        FIRST_OBJECT_ID + self.id
    }

    /// The column of a name.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The unique key that spans just these columns.
    pub(crate) fn unique_key(&self, columns: &[String]) -> Option<&Key> {
        self.keys.iter().find(|key| {
            key.kind.is_unique()
                && key.columns.len() == columns.len()
                && key.columns.iter().all(|one| columns.iter().any(|other| other.eq_ignore_ascii_case(one)))
        })
    }

    /// Whether any key keeps its rows apart.
    pub(crate) fn has_key(&self) -> bool {
        self.keys.iter().any(|key| key.kind.is_unique())
    }
}

/// The tables of a database.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Schema {
    /// The tables, by name.
    pub(crate) tables: Vec<Arc<Table>>,
}

impl Schema {
    /// Makes the describing tables in a new database.
    pub(crate) fn create(connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(CREATE)
    }

    /// Reads the description.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut tables = connection
            .prepare_cached(r#"SELECT id, name, created FROM "$tables" ORDER BY name"#)?
            .query_map([], |row| {
                Ok(Table { id: row.get(0)?, name: row.get(1)?, created: row.get(2)?, columns: Vec::new(), keys: Vec::new() })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        for table in &mut tables {
            table.columns = connection
                .prepare_cached(
                    r#"SELECT name, type, nullable, identity, default_text FROM "$columns" WHERE table_id = ?1 ORDER BY ordinal"#,
                )?
                .query_map([table.id], |row| {
                    let ty: String = row.get(1)?;
                    Ok(Column {
                        name: row.get(0)?,
                        ty: ty.parse().map_err(super::errors::SqlError::into_function_error)?,
                        nullable: row.get(2)?,
                        identity: row.get(3)?,
                        default: row.get(4)?,
                    })
                })?
                .collect::<Result<_, _>>()?;
            table.keys = connection
                .prepare_cached(r#"SELECT name, kind, columns FROM "$keys" WHERE table_id = ?1 ORDER BY name"#)?
                .query_map([table.id], |row| {
                    let (kind, columns): (String, String) = (row.get(1)?, row.get(2)?);
                    let columns = serde_json::from_str(&columns).map_err(|error| rusqlite::Error::UserFunctionError(error.into()))?;
                    Ok(Key { name: row.get(0)?, kind: KeyKind::from_code(&kind), columns })
                })?
                .collect::<Result<_, _>>()?;
        }
        Ok(Self { tables: tables.into_iter().map(Arc::new).collect() })
    }

    /// The table of a name.
    pub(crate) fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }

    /// Writes the description of a new table and gives it a number.
    pub(crate) fn add_table(connection: &Connection, table: &Table) -> rusqlite::Result<i64> {
        connection.execute(r#"INSERT INTO "$tables" (name, created) VALUES (?1, ?2)"#, params![table.name, table.created])?;
        let id = connection.last_insert_rowid();
        for (ordinal, column) in (1_i64..).zip(&table.columns) {
            Self::add_column(connection, id, ordinal, column)?;
        }
        for key in &table.keys {
            Self::add_key(connection, id, key)?;
        }
        Ok(id)
    }

    /// Writes the description of a column.
    pub(crate) fn add_column(connection: &Connection, table: i64, ordinal: i64, column: &Column) -> rusqlite::Result<()> {
        connection.execute(
            r#"INSERT INTO "$columns" (table_id, ordinal, name, type, nullable, identity, default_text) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"#,
            params![table, ordinal, column.name, column.ty.to_string(), column.nullable, column.identity, column.default],
        )?;
        Ok(())
    }

    /// Writes the description of a key.
    pub(crate) fn add_key(connection: &Connection, table: i64, key: &Key) -> rusqlite::Result<()> {
        let columns = serde_json::to_string(&key.columns).expect("a list of names has a JSON form");
        connection.execute(
            r#"INSERT INTO "$keys" (table_id, name, kind, columns) VALUES (?1, ?2, ?3, ?4)"#,
            params![table, key.name, key.kind.code(), columns],
        )?;
        Ok(())
    }

    /// Forgets a table.
    pub(crate) fn remove_table(connection: &Connection, table: i64) -> rusqlite::Result<()> {
        connection.execute(r#"DELETE FROM "$keys" WHERE table_id = ?1"#, [table])?;
        connection.execute(r#"DELETE FROM "$columns" WHERE table_id = ?1"#, [table])?;
        connection.execute(r#"DELETE FROM "$tables" WHERE id = ?1"#, [table])?;
        Ok(())
    }
}

/// A name as SQLite takes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
