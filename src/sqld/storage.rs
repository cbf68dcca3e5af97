//! Where the rows are: a folder with one SQLite file for each database, held by one instance at a time.
//!
//! ```text
//! <data>/data/master.db    logins, the list of databases, when the server last started
//! <data>/data/<name>.db    a user database
//! <data>/.lock             held for as long as an instance lives
//! ```
//!
//! A commit is durable when it returns: write-ahead log with `synchronous=FULL`. The lock is the kernel's, so it ends with the process,
//! however that ends.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use chrono::{NaiveDateTime, TimeDelta, Utc};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::{
    errors::{self, SqlError},
    functions,
    login::StoredPassword,
    moment,
    schema::{Schema, Table},
    signal::Signal,
    types::SqlType,
    write_queue::WriteQueue,
};

/// How long SQLite itself waits for a lock. Writers queue, so only recovery and checkpoints ever meet one.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// An instance that is being killed gives its folder free within this time.
const HOLD_DEADLINE: Duration = Duration::from_secs(2);
/// How long the wait for the folder rests between two tries.
const BETWEEN_HOLDS: Duration = Duration::from_millis(10);
/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 64;
/// How many steps of SQLite's machine go between two looks at the signal.
const STEPS_BETWEEN_LOOKS: i32 = 4000;
/// How many idle connections a database keeps open.
const IDLE_CONNECTIONS: usize = 32;
/// The id of the first user database; the ones below are the system's.
const FIRST_USER_DATABASE: i64 = 5;
/// Two starts are at least this far apart, so that a `datetime` can tell them apart.
const BETWEEN_STARTS: TimeDelta = TimeDelta::milliseconds(10);

const CREATE_MASTER: &str = r#"
    CREATE TABLE IF NOT EXISTS "$logins" (name TEXT PRIMARY KEY COLLATE NOCASE, salt BLOB NOT NULL, digest BLOB NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS "$databases" (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL COLLATE NOCASE UNIQUE, file TEXT NOT NULL, created TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS "$server" (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    INSERT OR IGNORE INTO "sqlite_sequence" (name, seq) SELECT '$databases', 4
        WHERE NOT EXISTS (SELECT 1 FROM "sqlite_sequence" WHERE name = '$databases');
"#;

/// Why the data cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// Another instance holds the folder.
    #[error(
        "error 5(Access is denied.) occurred while opening file '{}' to obtain configuration information at startup; another instance \
         holds the folder",
        .file.display()
    )]
    Held {
        /// The file that the message names.
        file: PathBuf,
    },
    /// A file or folder cannot be made or opened.
    #[error("could not {doing} `{}`: {source}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// SQLite refuses.
    #[error("could not {doing} `{}`: {source}", .path.display())]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: rusqlite::Error,
    },
}

/// The folder, while this process holds it.
#[derive(Debug)]
pub(crate) struct Hold {
    folder: PathBuf,
    _lock: File,
}

impl Hold {
    /// Takes hold of the folder, which is made if it is not there. Waits a moment for an instance that is just ending.
    pub(crate) fn take(folder: &Path) -> Result<Self, StorageError> {
        let data = folder.join("data");
        fs::create_dir_all(&data).map_err(|source| StorageError::Io { doing: "create the folder", path: data.clone(), source })?;
        let path = folder.join(".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(|source| StorageError::Io {
            doing: "open",
            path: path.clone(),
            source,
        })?;
        let deadline = Instant::now() + HOLD_DEADLINE;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { folder: folder.to_owned(), _lock: lock }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(BETWEEN_HOLDS),
                Err(TryLockError::WouldBlock) => return Err(StorageError::Held { file: data.join("master.db") }),
                Err(TryLockError::Error(source)) => return Err(StorageError::Io { doing: "lock", path, source }),
            }
        }
    }

    /// Where the files of the databases are.
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Whether an instance stored something here before.
    pub(crate) fn has_data(&self) -> bool {
        self.files().join("master.db").exists()
    }
}

/// What becomes of the log of a user database while it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFate {
    /// It is written back into the database as it grows.
    WrittenBack,
    /// It holds all that was committed since the start, for [a defect](super::defect::lose_newest) to find it there, and grows with that.
    Kept,
}

/// One database.
#[derive(Debug)]
pub(crate) struct Database {
    /// Its number.
    pub(crate) id: i64,
    /// Its name.
    pub(crate) name: String,
    /// When it was created.
    pub(crate) created: String,
    /// Its file.
    pub(crate) path: PathBuf,
    log: LogFate,
    /// Who may write.
    pub(crate) queue: Arc<WriteQueue>,
    online: AtomicBool,
    idle: Mutex<Vec<Handle>>,
    /// The highest number that each table's identity column ever had, by the table's own number and time of creation. A rollback takes
    /// SQLite's count back, and no number may come twice.
    numbers: Mutex<BTreeMap<(i64, String), i64>>,
}

/// A connection to a database, with what it knows of the schema.
#[derive(Debug)]
pub(crate) struct Handle {
    /// SQLite's connection.
    pub(crate) connection: Connection,
    schema: Option<(i64, Arc<Schema>)>,
}

impl Handle {
    fn open(path: &Path, log: LogFate) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_WAIT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=ON;")?;
        if log == LogFate::Kept {
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        }
        functions::register(&connection)?;
        Ok(Self { connection, schema: None })
    }

    /// The schema as it is now, also within a transaction that changes it.
    pub(crate) fn schema(&mut self) -> rusqlite::Result<Arc<Schema>> {
        let version: i64 = self.connection.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))?;
        if let Some((known, schema)) = &self.schema
            && *known == version
        {
            return Ok(Arc::clone(schema));
        }
        let schema = Arc::new(Schema::load(&self.connection)?);
        self.schema = Some((version, Arc::clone(&schema)));
        Ok(schema)
    }

    /// Forgets the schema. A rollback takes the version back, and another session's change may then get the number that was ours.
    pub(crate) fn forget_schema(&mut self) {
        self.schema = None;
    }

    /// From here on the statements stop when `signal` is cancelled.
    pub(crate) fn obey(&mut self, signal: Option<Arc<Signal>>) {
        let handler = signal.map(|signal| move || signal.cancelled().is_some());
        // It fails only for a connection that somebody else owns, and ours is our own.
        let _ = self.connection.progress_handler(STEPS_BETWEEN_LOOKS, handler);
    }
}

impl Database {
    fn new(id: i64, name: String, created: String, path: PathBuf, log: LogFate) -> Self {
        Self {
            id,
            name,
            created,
            path,
            log,
            queue: Arc::default(),
            online: AtomicBool::new(false),
            idle: Mutex::default(),
            numbers: Mutex::default(),
        }
    }

    /// Whether it has been recovered.
    pub(crate) fn is_online(&self) -> bool {
        self.online.load(Ordering::SeqCst)
    }

    /// From here on clients may use it.
    pub(crate) fn bring_online(&self) {
        self.online.store(true, Ordering::SeqCst);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Handle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn numbers(&self) -> MutexGuard<'_, BTreeMap<(i64, String), i64>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that the next row of a table with an identity column gets a number that none had before. To be called by a writer before
    /// it inserts.
    pub(crate) fn skip_used_numbers(&self, connection: &Connection, table: &Table) -> rusqlite::Result<()> {
        let Some(used) = self.numbers().get(&(table.id, table.created.clone())).copied() else { return Ok(()) };
        let last = last_number(connection, table)?;
        if last.is_none() {
            connection.prepare_cached("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)")?.execute(params![table.name, used])?;
        } else if last < Some(used) {
            connection.prepare_cached("UPDATE sqlite_sequence SET seq = ?2 WHERE name = ?1")?.execute(params![table.name, used])?;
        }
        Ok(())
    }

    /// Remembers the numbers that a table has given. To be called by a writer after it has inserted.
    pub(crate) fn note_used_numbers(&self, connection: &Connection, table: &Table) -> rusqlite::Result<()> {
        if let Some(last) = last_number(connection, table)? {
            let mut numbers = self.numbers();
            let used = numbers.entry((table.id, table.created.clone())).or_insert(last);
            *used = last.max(*used);
        }
        Ok(())
    }

    /// A connection whose statements stop when `signal` is cancelled.
    pub(crate) fn connect(&self, signal: Option<&Arc<Signal>>) -> rusqlite::Result<Handle> {
        let idle = self.idle().pop();
        let mut handle = match idle {
            Some(handle) => handle,
            None => Handle::open(&self.path, self.log)?,
        };
        handle.obey(signal.cloned());
        Ok(handle)
    }

    /// Takes a connection back for the next session. One with an open transaction is closed instead, which rolls it back.
    pub(crate) fn give_back(&self, mut handle: Handle) {
        if !handle.connection.is_autocommit() {
            return;
        }
        handle.obey(None);
        let mut idle = self.idle();
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(handle);
        }
    }

    /// The file of its log.
    pub(crate) fn log_path(&self) -> PathBuf {
        beside(&self.path, "-wal")
    }

    /// Opens the file, which replays the log that a dead instance left, and writes it back into the database. The count is that of the
    /// log's pages.
    pub(crate) fn recover(&self) -> rusqlite::Result<i64> {
        let handle = Handle::open(&self.path, self.log)?;
        Schema::create(&handle.connection)?;
        let pages: i64 = handle.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(1))?;
        self.give_back(handle);
        Ok(pages.max(0))
    }

    fn close(&self) {
        self.idle().clear();
    }
}

/// All databases.
#[derive(Debug)]
pub(crate) struct Storage {
    files: PathBuf,
    log: LogFate,
    master: Arc<Database>,
    databases: RwLock<Vec<Arc<Database>>>,
    start_time: NaiveDateTime,
    first_start: bool,
    _hold: Hold,
}

impl Storage {
    /// Opens `master` in the folder that is held and lists the user databases, which [are still to be recovered](Database::recover).
    pub(crate) fn open(hold: Hold, log: LogFate) -> Result<Self, StorageError> {
        let files = hold.files();
        let path = files.join("master.db");
        let first_start = !path.exists();
        let sqlite = |doing| {
            let path = path.clone();
            move |source| StorageError::Sqlite { doing, path, source }
        };
        let created = moment::store(Utc::now().naive_utc(), SqlType::DateTime);
        let mut master = Database::new(1, "master".to_owned(), created, path.clone(), LogFate::WrittenBack);
        master.recover().map_err(sqlite("recover"))?;
        let handle = master.connect(None).map_err(sqlite("open"))?;
        handle.connection.execute_batch(CREATE_MASTER).map_err(sqlite("prepare"))?;
        let start_time = next_start_time(&handle.connection).map_err(sqlite("note the time of the start in"))?;
        master.created = first_time(&handle.connection, "created", &master.created).map_err(sqlite("read"))?;
        let users = user_databases(&handle.connection, &files, log).map_err(sqlite("read the list of databases from"))?;
        master.give_back(handle);
        master.bring_online();
        let master = Arc::new(master);
        let databases = std::iter::once(Arc::clone(&master)).chain(users).collect();
        Ok(Self { files, log, master, databases: RwLock::new(databases), start_time, first_start, _hold: hold })
    }

    /// Whether the folder was empty.
    pub(crate) fn is_first_start(&self) -> bool {
        self.first_start
    }

    /// When this instance started; later than every start before it on the same data.
    pub(crate) fn start_time(&self) -> NaiveDateTime {
        self.start_time
    }

    /// The databases, `master` first.
    pub(crate) fn databases(&self) -> Vec<Arc<Database>> {
        self.databases.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The database of a name.
    pub(crate) fn database(&self, name: &str) -> Option<Arc<Database>> {
        self.databases().into_iter().find(|database| database.name.eq_ignore_ascii_case(name))
    }

    /// The password of a login.
    pub(crate) fn password(&self, login: &str) -> rusqlite::Result<Option<StoredPassword>> {
        let handle = self.master.connect(None)?;
        let found = handle
            .connection
            .prepare_cached(r#"SELECT salt, digest FROM "$logins" WHERE name = ?1"#)?
            .query_row([login], |row| Ok(StoredPassword { salt: row.get(0)?, digest: row.get(1)? }))
            .optional()?;
        self.master.give_back(handle);
        Ok(found)
    }

    /// Sets the password of a login.
    pub(crate) fn set_password(&self, login: &str, password: &StoredPassword) -> rusqlite::Result<()> {
        let handle = self.master.connect(None)?;
        handle.connection.execute(
            r#"INSERT INTO "$logins" (name, salt, digest) VALUES (?1, ?2, ?3)
               ON CONFLICT (name) DO UPDATE SET salt = excluded.salt, digest = excluded.digest"#,
            params![login, password.salt, password.digest],
        )?;
        self.master.give_back(handle);
        Ok(())
    }

    /// Creates a database. The caller holds `master`'s turn to write.
    pub(crate) fn create_database(&self, name: &str) -> Result<Arc<Database>, SqlError> {
        let mut databases = self.databases.write().unwrap_or_else(PoisonError::into_inner);
        if databases.iter().any(|database| database.name.eq_ignore_ascii_case(name)) {
            return Err(errors::database_exists(name));
        }
        let master = self.master.connect(None).map_err(|error| errors::from_sqlite(&error))?;
        let made = self.make_database(&master.connection, name).map_err(|error| errors::from_sqlite(&error))?;
        self.master.give_back(master);
        let database = Arc::new(made);
        databases.push(Arc::clone(&database));
        Ok(database)
    }

    /// Makes the file first and lists it last: a start after a kill between the two finds no half-made database.
    fn make_database(&self, master: &Connection, name: &str) -> rusqlite::Result<Database> {
        let next: i64 = master.query_row(r#"SELECT seq + 1 FROM "sqlite_sequence" WHERE name = '$databases'"#, [], |row| row.get(0))?;
        let plain = name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        // Lower case, so that two names that differ in case only cannot meet a file system that does not tell them apart.
        let file = if plain { format!("{}.{next}.db", name.to_ascii_lowercase()) } else { format!("database.{next}.db") };
        let path = self.files.join(&file);
        remove_files(&path);
        let created = moment::store(Utc::now().naive_utc(), SqlType::DateTime);
        let database = Database::new(next, name.to_owned(), created.clone(), path, self.log);
        database.recover()?;
        master.execute(r#"INSERT INTO "$databases" (name, file, created) VALUES (?1, ?2, ?3)"#, params![name, file, created])?;
        database.bring_online();
        Ok(database)
    }

    /// Drops a database. The caller has made sure that nobody uses it.
    pub(crate) fn drop_database(&self, name: &str) -> Result<(), SqlError> {
        let mut databases = self.databases.write().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = databases.iter().position(|database| database.name.eq_ignore_ascii_case(name)) else {
            return Err(errors::cannot_drop("database", name));
        };
        if databases[at].id < FIRST_USER_DATABASE {
            return Err(errors::system_database(name));
        }
        let master = self.master.connect(None).map_err(|error| errors::from_sqlite(&error))?;
        master.connection.execute(r#"DELETE FROM "$databases" WHERE name = ?1"#, [name]).map_err(|error| errors::from_sqlite(&error))?;
        self.master.give_back(master);
        let database = databases.remove(at);
        database.close();
        remove_files(&database.path);
        Ok(())
    }

    /// Closes the idle connections, which writes the logs back into the databases.
    pub(crate) fn close(&self) {
        for database in self.databases() {
            database.close();
        }
    }
}

/// The last number that a table with an identity column has given, as far as SQLite knows.
fn last_number(connection: &Connection, table: &Table) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = ?1")?.query_row([&table.name], |row| row.get(0)).optional()
}

/// Removes a database's file and what SQLite keeps beside it.
fn remove_files(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        // What is not there need not go; what cannot go shows when the name is used again.
        let _ = fs::remove_file(beside(path, suffix));
    }
}

/// A file that SQLite keeps beside a database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn user_databases(master: &Connection, files: &Path, log: LogFate) -> rusqlite::Result<Vec<Arc<Database>>> {
    master
        .prepare(r#"SELECT id, name, file, created FROM "$databases" ORDER BY id"#)?
        .query_map([], |row| {
            let file: String = row.get(2)?;
            Ok(Arc::new(Database::new(row.get(0)?, row.get(1)?, row.get(3)?, files.join(file), log)))
        })?
        .collect()
}

/// The value of a key of `$server`, which is set to `value` if it has none yet.
fn first_time(master: &Connection, key: &str, value: &str) -> rusqlite::Result<String> {
    master.execute(r#"INSERT OR IGNORE INTO "$server" (key, value) VALUES (?1, ?2)"#, [key, value])?;
    master.query_row(r#"SELECT value FROM "$server" WHERE key = ?1"#, [key], |row| row.get(0))
}

fn next_start_time(master: &Connection) -> rusqlite::Result<NaiveDateTime> {
    let last: Option<String> = master.query_row(r#"SELECT value FROM "$server" WHERE key = 'start'"#, [], |row| row.get(0)).optional()?;
    let rounded = |at: NaiveDateTime| moment::from_ticks(moment::ticks(at));
    let now = rounded(Utc::now().naive_utc());
    let start = match last.as_deref().and_then(moment::parse) {
        Some(last) if now <= last => rounded(last + BETWEEN_STARTS),
        _ => now,
    };
    master.execute(
        r#"INSERT INTO "$server" (key, value) VALUES ('start', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value"#,
        [moment::store(start, SqlType::DateTime)],
    )?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Storage {
        let hold = Hold::take(folder).expect("nobody holds it");
        Storage::open(hold, LogFate::WrittenBack).expect("it opens")
    }

    #[test]
    fn a_folder_is_held_by_one_instance() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Hold::take(folder.path()).expect("nobody holds it");
        let error = Hold::take(folder.path()).expect_err("it is held");
        assert!(error.to_string().contains("error 5(Access is denied.) occurred while opening file"), "{error}");
        drop(first);
        Hold::take(folder.path()).expect("it is free again");
    }

    #[test]
    fn a_folder_is_waited_for_while_its_holder_dies() {
        let folder = tempfile::tempdir().expect("a folder");
        let dying = Hold::take(folder.path()).expect("nobody holds it");
        let (begun, begins) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            let next = scope.spawn(|| {
                begun.send(()).expect("the test listens");
                Hold::take(folder.path())
            });
            begins.recv().expect("it begins");
            thread::sleep(BETWEEN_HOLDS * 5);
            drop(dying);
            next.join().expect("no panic").expect("it is free in time");
        });
    }

    #[test]
    fn every_start_is_later_than_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut last = None;
        for _ in 0..5 {
            let start = Some(open(folder.path()).start_time());
            assert!(start > last, "{start:?} is not later than {last:?}");
            last = start;
        }
    }

    #[test]
    fn a_database_is_there_after_a_restart_and_gone_after_a_drop() {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = open(folder.path());
        assert!(storage.is_first_start());
        let made = storage.create_database("Come back").expect("it is new");
        assert!(made.id >= FIRST_USER_DATABASE);
        assert_eq!(storage.create_database("COME BACK").expect_err("it is there").number, 1801);
        drop(storage);
        let storage = open(folder.path());
        assert!(!storage.is_first_start());
        assert!(!storage.database("come back").expect("it is still there").is_online());
        storage.drop_database("come back").expect("nobody uses it");
        assert_eq!(storage.drop_database("come back").expect_err("it is gone").number, 3701);
        assert_eq!(storage.drop_database("master").expect_err("it is the system's").number, 3708);
        drop(storage);
        assert!(open(folder.path()).database("come back").is_none());
    }
}
