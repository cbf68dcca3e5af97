//! A proxy between runner and prober, which is cut at will.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What it does with the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Lets everything through.
    Open,
    /// Cuts all connections, and each new one at once.
    Shut,
    /// Keeps them and lets nothing through.
    Silent,
}

/// The proxy; it ends when this is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    target: Arc<Mutex<SocketAddr>>,
    accepted: Arc<AtomicUsize>,
    cuts: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one that cuts each connection after a random number of bytes from the prober, if such a range is given.
    pub(crate) async fn start(target: SocketAddr, cut_after: Option<Range<usize>>, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("it listens");
        let (mode, target) = (watch::Sender::new(Mode::Open), Arc::new(Mutex::new(target)));
        let (accepted, cuts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let arrived = accepted.clone();
        let (state, count, aim) = (mode.subscribe(), cuts.clone(), target.clone());
        let task = tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            while let Ok((runner, _)) = listener.accept().await {
                arrived.fetch_add(1, Ordering::Relaxed);
                let budget = cut_after.clone().map_or(usize::MAX, |range| random.usize(range));
                let aim = *aim.lock().expect("no panic");
                let (state, count) = (state.clone(), count.clone());
                tokio::spawn(async move {
                    if *state.borrow() != Mode::Shut
                        && let Ok(prober) = TcpStream::connect(aim).await
                    {
                        forward(runner, prober, budget, state).await;
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, mode, target, accepted, cuts, task }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// New connections go there.
    pub(crate) fn aim(&self, target: SocketAddr) {
        *self.target.lock().expect("no panic") = target;
    }

    /// How many connections were opened.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many connections have ended.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Copies both ways until one end closes, the budget of what comes from the prober is spent, or the proxy is shut.
async fn forward(runner: TcpStream, prober: TcpStream, mut budget: usize, mut mode: watch::Receiver<Mode>) {
    let (mut from_runner, mut to_runner) = runner.into_split();
    let (mut from_prober, mut to_prober) = prober.into_split();
    let (mut there, mut back) = ([0; 4096], [0; 4096]);
    while budget > 0 {
        let silent = match *mode.borrow_and_update() {
            Mode::Open => false,
            Mode::Silent => true,
            Mode::Shut => return,
        };
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            read = from_runner.read(&mut there), if !silent => match read {
                Ok(read) if read > 0 => if to_prober.write_all(&there[..read]).await.is_err() { return },
                _ => return,
            },
            read = from_prober.read(&mut back), if !silent => match read {
                Ok(read) if read > 0 => {
                    // Also in the middle of a line.
                    let sent = read.min(budget);
                    budget -= sent;
                    if to_runner.write_all(&back[..sent]).await.is_err() { return }
                }
                _ => return,
            },
        }
    }
}
