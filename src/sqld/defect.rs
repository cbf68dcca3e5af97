//! Ways in which the stand-in can be told to misbehave, so that the tester can be tested.
//!
//! None of them shows while the server runs: each shows after a restart, as the fault that it stands for would.
//!
//! - `ack-before-store`: a start after a kill cuts the newest commits off the log, as if they had been acknowledged and had never reached the
//!   disk. An orderly stop that ends in time leaves no log, and so it loses nothing.
//! - `lose-volume`: a start that finds data begins from nothing, as with a fresh `emptyDir`.
//! - `apply-twice`: recovery applies the newest rows again, where no key forbids it.
//! - `flip-bit`: recovery flips one bit of one stored text, which stays valid text.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use rusqlite::{Connection, OptionalExtension};

use super::schema::{Schema, Table, quoted};

/// A way of misbehaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Defect {
    /// Acknowledges commits before they are stored; a kill loses the newest
    AckBeforeStore,
    /// Begins from nothing when it is started on data
    LoseVolume,
    /// Applies the newest rows again when it recovers
    ApplyTwice,
    /// Flips a bit of a stored text when it recovers
    FlipBit,
}

/// How many commits a kill loses: more than are on their way to their clients at once, as a rule, so that some of them were acknowledged.
const NEWEST_COMMITS: usize = 32;
/// The lengths of the headers of SQLite's log and of a frame in it.
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// How many of the newest rows of a table are applied again.
const APPLIED_AGAIN: u32 = 4;

/// Removes everything that is stored.
pub(crate) fn lose(files: &Path) -> io::Result<()> {
    fs::remove_dir_all(files)?;
    fs::create_dir_all(files)
}

/// Applies the newest rows of each table without a key once more. The count is that of the rows.
pub(crate) fn apply_twice(connection: &Connection) -> rusqlite::Result<usize> {
    let schema = Schema::load(connection)?;
    let mut again = 0;
    for table in schema.tables.iter().filter(|table| !table.has_key()) {
        let columns: Vec<_> = table.columns.iter().filter(|column| !column.identity).map(|column| quoted(&column.name)).collect();
        if columns.is_empty() {
            continue;
        }
        let (name, columns) = (quoted(&table.name), columns.join(", "));
        again += connection.execute(
            &format!(
                "INSERT INTO {name} ({columns}) SELECT {columns} FROM (SELECT * FROM {name} ORDER BY rowid DESC LIMIT {APPLIED_AGAIN})"
            ),
            [],
        )?;
    }
    Ok(again)
}

/// Flips one bit in a text of the newest row of a table. What was changed is returned; `None`: there is no text.
///
/// A text that is part of a key would look like another row, so the first choice is one that is no part of any.
pub(crate) fn flip_bit(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let schema = Schema::load(connection)?;
    let in_key =
        |table: &Table, column: &str| table.keys.iter().any(|key| key.columns.iter().any(|name| name.eq_ignore_ascii_case(column)));
    let mut choices: Vec<_> = schema
        .tables
        .iter()
        .flat_map(|table| table.columns.iter().map(move |column| (table, column)))
        .filter(|(table, column)| column.ty.is_text() && !in_key(table, &column.name))
        .collect();
    choices.sort_by_key(|(table, column)| (!table.has_key(), column.nullable));
    for (table, column) in choices {
        let (name, field) = (quoted(&table.name), quoted(&column.name));
        let newest = format!("SELECT rowid, {field} FROM {name} WHERE length({field}) > 0 ORDER BY rowid DESC LIMIT 1");
        let found: Option<(i64, String)> = connection.query_row(&newest, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if let Some((row, text)) = found
            && let Some(flipped) = flipped(&text)
        {
            connection.execute(&format!("UPDATE {name} SET {field} = ?1 WHERE rowid = ?2"), (&flipped, row))?;
            return Ok(Some(format!("{}.{}", table.name, column.name)));
        }
    }
    Ok(None)
}

/// The text with the lowest bit of one character flipped, so that a letter or digit stays one.
fn flipped(text: &str) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    let at = bytes.iter().position(|byte| byte.is_ascii_alphanumeric() && (byte ^ 1).is_ascii_alphanumeric())?;
    bytes[at] ^= 1;
    String::from_utf8(bytes).ok()
}

/// Cuts the newest commits off the log that a killed instance left; `wal` may be missing. The count is that of the commits.
///
/// The log must hold all that was committed since it was begun: what SQLite has written back into the database already cannot be cut off. Its
/// format is that of <https://www.sqlite.org/fileformat2.html#walformat>: a header, then frames of a header and a page; a frame that ends a
/// commit says how many pages the database has after it, and one of an earlier log has another salt.
pub(crate) fn lose_newest(wal: &Path) -> io::Result<usize> {
    let mut log = match File::options().read(true).write(true).open(wal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        opened => opened?,
    };
    let mut header = [0; WAL_HEADER];
    if let Err(error) = log.read_exact(&mut header) {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(0) } else { Err(error) };
    }
    let page_size = u64::from(u32::from_be_bytes(header[8..12].try_into().expect("four bytes")));
    let salt = &header[16..24];
    // Where the log would end: as it began, or behind one of its commits.
    let mut ends = vec![WAL_HEADER as u64];
    let length = log.metadata()?.len();
    let mut at = WAL_HEADER as u64;
    while at + FRAME_HEADER as u64 + page_size <= length {
        let mut frame = [0; FRAME_HEADER];
        log.read_exact_at(&mut frame, at)?;
        if &frame[8..16] != salt {
            break;
        }
        at += FRAME_HEADER as u64 + page_size;
        if frame[4..8] != [0; 4] {
            ends.push(at);
        }
    }
    let lost = NEWEST_COMMITS.min(ends.len() - 1);
    if lost > 0 {
        log.set_len(ends[ends.len() - 1 - lost])?;
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0abc", Some("1abc"))]
    #[case("-b", Some("-c"))]
    #[case("äöü", None)]
    #[case("", None)]
    fn one_bit_is_flipped_and_the_text_stays_text(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(flipped(text).as_deref(), expected);
    }

    /// A database whose rows are a commit each, and of which a kill leaves what is copied to `left`.
    struct Killed {
        folder: tempfile::TempDir,
        connection: Connection,
        next: i64,
    }

    impl Killed {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let connection = Connection::open(folder.path().join("x.db")).expect("it opens");
            connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t (n INTEGER)").expect("a table");
            connection.execute_batch("PRAGMA wal_checkpoint(RESTART)").expect("it is written back");
            Self { folder, connection, next: 0 }
        }

        fn commit(&mut self, commits: usize) {
            for _ in 0..commits {
                self.connection.execute("INSERT INTO t VALUES (?1)", [self.next]).expect("a row");
                self.next += 1;
            }
        }

        /// How many commits are lost, and the rows that are there afterwards.
        fn left(&self) -> (usize, Vec<i64>) {
            let left = tempfile::tempdir().expect("a folder");
            for name in ["x.db", "x.db-wal"] {
                fs::copy(self.folder.path().join(name), left.path().join(name)).expect("a copy");
            }
            let lost = lose_newest(&left.path().join("x.db-wal")).expect("it is cut");
            let connection = Connection::open(left.path().join("x.db")).expect("it opens");
            let intact: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it is checked");
            assert_eq!(intact, "ok");
            let mut rows = connection.prepare("SELECT n FROM t ORDER BY n").expect("a query");
            let rows = rows.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("numbers");
            (lost, rows)
        }
    }

    #[test]
    fn the_newest_commits_are_lost_and_the_others_are_not() {
        let mut killed = Killed::new();
        killed.commit(50);
        assert_eq!(killed.left(), (NEWEST_COMMITS, (0..18).collect()));
        // What is behind the newest commit was rolled back, and counts as none.
        killed.connection.execute_batch("PRAGMA cache_size=1; BEGIN").expect("a transaction");
        for _ in 0..2000 {
            killed.connection.execute("INSERT INTO t VALUES (-1)", []).expect("a row");
        }
        assert_eq!(killed.left(), (NEWEST_COMMITS, (0..18).collect()));
    }

    #[test]
    fn what_was_written_back_is_not_lost() {
        let mut killed = Killed::new();
        killed.commit(20);
        killed.connection.execute_batch("PRAGMA wal_checkpoint(RESTART)").expect("it is written back");
        // The log begins anew over the old one, which is longer.
        killed.commit(3);
        assert_eq!(killed.left(), (3, (0..20).collect()));
    }

    #[test]
    fn without_a_log_nothing_is_lost() {
        let folder = tempfile::tempdir().expect("a folder");
        let wal = folder.path().join("x.db-wal");
        assert_eq!(lose_newest(&wal).expect("no log is no error"), 0);
        fs::write(&wal, [0; 7]).expect("a log that had just begun");
        assert_eq!(lose_newest(&wal).expect("a log without a header is no error"), 0);
    }
}
