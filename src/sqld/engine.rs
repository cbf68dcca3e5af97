//! The engine: opens the data, listens, recovers, serves until it is told to stop.
//!
//! It listens as soon as `master` is open and recovers the user databases then, as SQL Server does: the port answers well before a
//! database does.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, thread, time::Duration};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Defect, Options, catalog,
    conditions::Conditions,
    defect, log,
    login::{self, StoredPassword},
    server::{self, Instance, MAX_CONNECTIONS},
    storage::{Database, Hold, LogFate, Storage, StorageError},
    surroundings::{Surroundings, SurroundingsError},
    tls::{self, TlsError},
};

/// Connections that have not ended by then are left behind when the engine stops.
const STOP_DEADLINE: Duration = Duration::from_secs(8);
/// The stack of a session's thread: deep expressions are walked by recursion, and their depth is bounded by the length of a batch.
const STACK: usize = 16 << 20;
/// Threads beside the ones of sessions.
const SPARE_THREADS: usize = 16;
/// The threads that move bytes.
const ASYNC_THREADS: usize = 2;
/// The login that there is.
const ADMINISTRATOR: &str = "sa";

/// Why the engine cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// The licence is not accepted.
    #[error(
        "The SQL Server End-User License Agreement (EULA) must be accepted before SQL Server can start. The stand-in asks for it as SQL \
         Server does: set the environment variable ACCEPT_EULA to Y"
    )]
    Eula,
    /// There is no password, or a weak one.
    #[error(
        "Unable to set system administrator password: Password validation failed. The password does not meet SQL Server password policy \
         requirements because {why}. Set it with the environment variable MSSQL_SA_PASSWORD"
    )]
    Password {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The address is taken, or is not ours.
    #[error("Server TCP provider failed to listen on [ {} <ipv4> {} ]: {source}", .address.ip(), .address.port())]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The data cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The environment makes no sense.
    #[error(transparent)]
    Surroundings(#[from] SurroundingsError),
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A step of the start failed.
    #[error("could not {doing}: {why}")]
    Start {
        /// Which.
        doing: &'static str,
        /// Why.
        why: String,
    },
}

fn start_failed(doing: &'static str) -> impl FnOnce(&dyn std::fmt::Display) -> EngineError {
    move |why| EngineError::Start { doing, why: why.to_string() }
}

/// Runs the engine until SIGTERM.
pub(crate) fn main(options: &Options, surroundings: &Surroundings) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(ASYNC_THREADS)
        .max_blocking_threads(MAX_CONNECTIONS + SPARE_THREADS)
        .thread_stack_size(STACK)
        .enable_all()
        .build();
    let ran = runtime.map_err(|error| start_failed("start the threads")(&error)).and_then(|runtime| {
        let ran = runtime.block_on(run(options, surroundings));
        // Sessions that did not end in time must not hold up the end; what they had not committed is rolled back by the next start.
        runtime.shutdown_background();
        ran
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line("Server", &format!("Error: {error}."));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options, surroundings: &Surroundings) -> Result<(), EngineError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| start_failed("listen for signals")(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| start_failed("listen for signals")(&error))?;
    if !surroundings.eula_accepted {
        return Err(EngineError::Eula);
    }
    for line in catalog::version().lines() {
        log::line("Server", line);
    }
    log::line("Server", &format!("Server process ID is {}.", std::process::id()));
    // The key of the certificate takes longer than opening the data.
    let host = surroundings.host.clone();
    let making = thread::spawn(move || tls::acceptor(&host));

    let storage = open(options, surroundings)?;
    let address = surroundings.address(options)?;
    let listener = TcpListener::bind(address).await.map_err(|source| EngineError::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| EngineError::Listen { address, source })?;
    let tls = making.join().map_err(|_| start_failed("make a certificate")(&"the thread panicked"))??;
    let stopping = CancellationToken::new();
    let instance = Arc::new(Instance::new(
        surroundings.host.clone(),
        storage,
        tls,
        &options.deny,
        Conditions::beside(surroundings.volume(options).as_deref()),
        stopping.clone(),
    ));
    log::line("Server", &format!("Server is listening on [ {} <ipv4> {} ].", address.ip(), address.port()));
    log::line("Server", "SQL Server is now ready for client connections. This is an informational message; no user action is required.");
    let recovery = tokio::task::spawn_blocking({
        let (instance, defect, slowly) = (Arc::clone(&instance), options.defect, options.recover_slowly);
        move || recover(&instance, defect, slowly)
    });
    let serving = tokio::spawn(server::serve(Arc::clone(&instance), listener));

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    log::line(
        "Server",
        "SQL Server is terminating in response to a 'stop' request from Service Control Manager. This is an informational message only. No user action is required.",
    );
    stopping.cancel();
    if timeout(STOP_DEADLINE, serving).await.is_err() {
        log::line("Server", &format!("Connections have not ended within {} s and are left behind.", STOP_DEADLINE.as_secs()));
    }
    recovery.abort();
    let closing = tokio::task::spawn_blocking(move || instance.storage.close());
    // It logs by itself what goes wrong; a panic there is no reason to end otherwise.
    let _ = closing.await;
    log::line("Server", "SQL Server shutdown has been completed.");
    Ok(())
}

/// Takes hold of the data and opens `master`.
fn open(options: &Options, surroundings: &Surroundings) -> Result<Storage, EngineError> {
    let hold = Hold::take(&surroundings.data(options))?;
    if options.defect == Some(Defect::LoseVolume) && hold.has_data() {
        defect::lose(&hold.files()).map_err(|error| start_failed("lose the volume")(&error))?;
    }
    let fate = if options.defect == Some(Defect::AckBeforeStore) { LogFate::Kept } else { LogFate::WrittenBack };
    log::line("spid7s", "Starting up database 'master'.");
    let first = !hold.has_data();
    if first {
        check_password(surroundings)?;
    }
    let storage = Storage::open(hold, fate)?;
    set_first_password(&storage, surroundings)?;
    if !storage.is_first_start() {
        let master = storage.databases().into_iter().next().expect("master is always there");
        misbehave(&master, options.defect);
    }
    Ok(storage)
}

fn check_password(surroundings: &Surroundings) -> Result<(), EngineError> {
    let Some(password) = &surroundings.password else {
        return Err(EngineError::Password { why: "it is not set" });
    };
    match login::weakness(&password.0) {
        Some(why) => Err(EngineError::Password { why }),
        None => Ok(()),
    }
}

/// The password of the environment counts on the first start only, as with SQL Server.
fn set_first_password(storage: &Storage, surroundings: &Surroundings) -> Result<(), EngineError> {
    let failed = |error: rusqlite::Error| start_failed("set the password of `sa`")(&error);
    if storage.password(ADMINISTRATOR).map_err(failed)?.is_some() {
        return Ok(());
    }
    check_password(surroundings)?;
    let password = surroundings.password.as_ref().expect("it was just checked");
    storage.set_password(ADMINISTRATOR, &StoredPassword::of(&password.0)).map_err(failed)
}

/// Recovers the user databases, one after the other.
fn recover(instance: &Instance, defect: Option<Defect>, slowly: Option<Duration>) {
    for database in instance.storage.databases().into_iter().filter(|database| !database.is_online()) {
        log::line("spid9s", &format!("Starting up database '{}'.", database.name));
        if let Some(slowly) = slowly {
            thread::sleep(slowly);
        }
        if defect == Some(Defect::AckBeforeStore) {
            match defect::lose_newest(&database.log_path()) {
                Ok(0) => {}
                done => tell(&database, done.map(|commits| format!("its {commits} newest commits are lost"))),
            }
        }
        match database.recover() {
            Ok(pages) => {
                if pages > 0 {
                    log::line(
                        "spid9s",
                        &format!("{pages} pages of the log rolled forward in database '{}' ({}).", database.name, database.id),
                    );
                }
                misbehave(&database, defect);
                database.bring_online();
            }
            Err(error) => log::line("spid9s", &format!("Database '{}' cannot be recovered: {error}.", database.name)),
        }
    }
    log::line("spid9s", "Recovery is complete. This is an informational message only. No user action is required.");
}

/// What a defect does to a database that was recovered.
fn misbehave(database: &Database, defect: Option<Defect>) {
    let done = match defect {
        Some(Defect::ApplyTwice) => database.connect(None).and_then(|handle| {
            let rows = defect::apply_twice(&handle.connection)?;
            database.give_back(handle);
            Ok(format!("{rows} rows applied again"))
        }),
        Some(Defect::FlipBit) => database.connect(None).and_then(|handle| {
            let place = defect::flip_bit(&handle.connection)?;
            database.give_back(handle);
            Ok(place.map_or_else(|| "no text to flip a bit of".to_owned(), |place| format!("a bit flipped in {place}")))
        }),
        Some(Defect::AckBeforeStore | Defect::LoseVolume) | None => return,
    };
    tell(database, done);
}

/// Says in the log what a defect did.
fn tell<E: std::fmt::Display>(database: &Database, done: Result<String, E>) {
    match done {
        Ok(what) => log::line("spid9s", &format!("Defect in database '{}': {what}.", database.name)),
        Err(error) => log::line("spid9s", &format!("The defect failed in database '{}': {error}.", database.name)),
    }
}
