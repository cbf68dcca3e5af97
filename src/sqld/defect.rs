//! Ways in which the stand-in can be told to misbehave, so that the tester can be tested.
//!
//! None of them shows while the server runs: each shows after a restart, as the fault that it stands for would.
//!
//! - `ack-before-store`: the rows are kept in a working copy; the volume gets a copy of it some hundred milliseconds later. A kill loses what was
//!   acknowledged since. An orderly stop stores everything.
//! - `lose-volume`: a start that finds data begins from nothing, as with a fresh `emptyDir`.
//! - `apply-twice`: recovery applies the newest rows again, where no key forbids it.
//! - `flip-bit`: recovery flips one bit of one stored text, which stays valid text.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{
    functions, log,
    schema::{Schema, Table, quoted},
};

/// A way of misbehaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Defect {
    /// Acknowledges a commit before it is stored; a kill loses it
    AckBeforeStore,
    /// Begins from nothing when it is started on data
    LoseVolume,
    /// Applies the newest rows again when it recovers
    ApplyTwice,
    /// Flips a bit of a stored text when it recovers
    FlipBit,
}

/// How long after it was taken a copy becomes the stored one. What is acknowledged meanwhile is lost by a kill.
const STORE_DELAY: Duration = Duration::from_millis(300);
/// How many of the newest rows of a table are applied again.
const APPLIED_AGAIN: u32 = 4;
/// The folder of the working copy.
const WORKING: &str = "working";

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

/// Serves from a working copy and stores it late.
#[derive(Debug)]
pub(crate) struct LateStore {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl LateStore {
    /// Makes the working copy of what is stored in `files`, and returns its folder.
    pub(crate) fn working_copy(files: &Path) -> Result<PathBuf, String> {
        settle(files).map_err(|error| error.to_string())?;
        Self::copied(files).map_err(|error| error.to_string())
    }

    fn copied(files: &Path) -> io::Result<PathBuf> {
        let working = files.join(WORKING);
        match fs::remove_dir_all(&working) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&working)?;
        for entry in fs::read_dir(files)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), working.join(entry.file_name()))?;
            }
        }
        Ok(working)
    }

    /// Begins to store the working copy in `files`, again and again, each time a while after it was acknowledged.
    pub(crate) fn start(working: PathBuf, files: PathBuf) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("late-store".to_owned()).spawn(move || {
            loop {
                let taken = take(&working, &files);
                let last = !matches!(stopped.recv_timeout(STORE_DELAY), Err(RecvTimeoutError::Timeout));
                let stored = taken.and_then(|()| publish(&files)).and_then(|()| {
                    // An orderly stop stores what came after the last copy, too.
                    if last { take(&working, &files).and_then(|()| publish(&files)) } else { Ok(()) }
                });
                if let Err(why) = stored {
                    log::line("Server", &format!("The late store failed: {why}."));
                }
                if last {
                    return;
                }
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Stores everything and ends.
    pub(crate) fn stop(self) {
        // The thread may have ended; then there is nothing to tell it.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Writes the logs of stored databases back, because a log must not outlive the database that it belongs to, and removes copies that a killed
/// instance did not get to store.
fn settle(files: &Path) -> Result<(), Box<dyn std::error::Error>> {
    for entry in fs::read_dir(files)? {
        let path = entry?.path();
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some(TAKEN) => fs::remove_file(&path)?,
            Some("db") => {
                Connection::open(&path)?.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A copy that waits for its time has this suffix.
const TAKEN: &str = "taken";

/// Copies each database of the working copy beside the stored ones.
fn take(working: &Path, files: &Path) -> Result<(), String> {
    let failed = |error: &dyn std::error::Error| error.to_string();
    for entry in fs::read_dir(working).map_err(|error| failed(&error))? {
        let path = entry.map_err(|error| failed(&error))?.path();
        let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|extension| extension == "db")) else { continue };
        let copy = files.join(name).with_added_extension(TAKEN);
        // What a killed instance left half made.
        let _ = fs::remove_file(&copy);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|error| failed(&error))?;
        connection.busy_timeout(STORE_DELAY).map_err(|error| failed(&error))?;
        functions::register(&connection).map_err(|error| failed(&error))?;
        connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()]).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Puts the copies in the place of the stored databases.
fn publish(files: &Path) -> Result<(), String> {
    for entry in fs::read_dir(files).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.extension().is_some_and(|extension| extension == TAKEN) {
            fs::rename(&path, path.with_extension("")).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
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
}
