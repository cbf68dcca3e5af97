//! The embedded cluster: enough of Kubernetes, in this process, for a database to be broken and to come back.
//!
//! ```text
//!   kube, kubectl ──HTTPS──▶ api ──▶ admission ──▶ store ──watches──▶ api
//!                                                    ▲ │
//!                                                    │ ▼
//!                 control (one small loop each)   kubelet (one for each node)   proxy (service addresses)
//!                 deployment, replicaset,            │ worker (one for each pod)
//!                 statefulset, scheduler,            ▼
//!                 nodes, taints, volumes, ...     process (real ones, of our own binary)
//! ```
//!
//! - [`Sandbox::start`] claims a range of loopback addresses, makes certificates and a token, and begins to serve. [`Sandbox::client`] is the way in: nothing
//!   in this crate reaches the objects by any other.
//! - Objects are JSON values in one `store`; every write is checked and completed by `admission` and seen by every watch.
//! - Controllers and kubelets wait for changes of the kinds they care about, look at the whole state, and do what is to be done. None of them polls.
//! - Pods are processes of our own binary, with real signals; volumes are directories; connections are sockets.
//! - A node can lose its power: its processes die, its kubelet falls silent, and the control plane has to find out. What else can be hurt is in `hurts`.
//! - Timers have Kubernetes' proportions and are divided by [`Options::speed`].
//!
//! The sandbox runs on threads of its own, so that what it does and what the caller measures do not wait for each other. When it stops, or is dropped,
//! its processes are killed and reaped and its directory is removed. When the process that hosts it is killed, the kernel kills its processes, and
//! the next sandbox to start removes the directory.
//!
//! It is *not* a second Kubernetes: what no scenario, test or `kubectl` habit needs is left out, and what it cannot do it refuses.

mod admission;
mod api;
mod clock;
mod containers;
mod control;
mod directory;
mod events;
mod hurts;
mod kinds;
mod kubelet;
mod network;
mod object;
mod patch;
pub mod pause;
mod power;
mod process;
mod proxy;
mod refusal;
mod selector;
mod store;
mod tls;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{
    api::Api,
    clock::Speed,
    containers::Containers,
    directory::Home,
    hurts::Hurts,
    kinds::Kind,
    network::Network,
    object::Look,
    power::Power,
    process::Spawner,
    refusal::Refusal,
    store::{Key, Store},
    tls::{Identity, TlsListener},
};
pub use self::{directory::DirectoryError, network::NetworkError, tls::TlsError};

/// How long the API may take to finish the requests that it is answering when the sandbox stops.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a stop may take in all. Killing is quick; a disk may not be.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How many threads the sandbox runs on, beside those that wait for processes.
const THREADS: usize = 2;
/// The namespaces of a new cluster.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// How a sandbox is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Our own binary, which stands for every image.
    pub binary: PathBuf,
    /// How much faster than Kubernetes the timers run. 0 counts as 1.
    pub speed: u32,
    /// How many worker nodes there are, 1 to 16.
    pub workers: u8,
    /// The port of the API on 127.0.0.1; `None` is any that is free.
    pub port: Option<u16>,
    /// What this sandbox does wrong, on purpose.
    pub defect: Option<Defect>,
}

impl Options {
    /// Three workers, ten times as fast as Kubernetes, with nothing wrong.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self { binary: binary.into(), speed: 10, workers: 3, port: None, defect: None }
    }
}

/// Something that a sandbox does wrong on purpose, so that it can be seen whether anybody notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// When a container of a workload is started again, or its pod replaced, the Service in front of it is replaced by one with another address, as a
    /// careless operator would.
    ChangeAddress,
    /// A node that was cordoned cannot be uncordoned: the API answers 500.
    UndoFails,
    /// Whatever a fault does is answered as if it were done, and is not.
    FaultsDoNothing,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There are to be no nodes, or more than there are addresses for.
    #[error("a sandbox has 1 to {MOST_WORKERS} workers, not {0}")]
    Workers(u8),
    /// The binary is not there.
    #[error("the program `{}` that pods are to run is not a file", .0.display())]
    Binary(PathBuf),
    /// No directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// No addresses.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// No certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The API's port cannot be had.
    #[error("could not listen on `{at}` for the API: {source}")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No threads.
    #[error("could not start the sandbox's threads: {0}")]
    Thread(#[source] io::Error),
    /// The sandbox ended before it had begun.
    #[error("the sandbox ended while it was starting")]
    Ended,
    /// No client from the kubeconfig.
    #[error("could not make a client for the sandbox: {0}")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The most worker nodes that a sandbox can have.
const MOST_WORKERS: u8 = 16;

/// A running sandbox. Dropping it stops it, and waits until its processes are gone.
pub struct Sandbox {
    cluster: Arc<Cluster>,
    address: SocketAddr,
    authority: String,
    token: Arc<str>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What every part of a sandbox shares.
#[derive(Debug)]
pub(crate) struct Cluster {
    store: Arc<Store>,
    speed: Speed,
    network: Arc<Network>,
    dir: PathBuf,
    binary: PathBuf,
    defect: Option<Defect>,
    stopping: CancellationToken,
    /// Taken away when the sandbox has stopped, so that its thread can end.
    spawner: Mutex<Option<Spawner>>,
    /// What runs.
    containers: Containers,
    /// Which nodes have power.
    power: Power,
    /// What is hurt beside.
    hurts: Hurts,
}

impl Sandbox {
    /// Starts a sandbox. The API answers when this returns.
    pub async fn start(options: Options) -> Result<Self, SandboxError> {
        if !(1..=MOST_WORKERS).contains(&options.workers) {
            return Err(SandboxError::Workers(options.workers));
        }
        if !options.binary.is_file() {
            return Err(SandboxError::Binary(options.binary));
        }
        let home = Home::make()?;
        let network = Arc::new(Network::claim()?);
        let identity = Identity::make(vec!["127.0.0.1".into(), "localhost".into()])?;
        let authority = identity.authority.clone();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port.unwrap_or_default()));
        let listener = std::net::TcpListener::bind(at).map_err(|source| SandboxError::Listen { at, source })?;
        listener.set_nonblocking(true).map_err(|source| SandboxError::Listen { at, source })?;
        let address = listener.local_addr().map_err(|source| SandboxError::Listen { at, source })?;
        let token: Arc<str> = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()).into();
        let spawner = Spawner::start().map_err(SandboxError::Thread)?;
        let speed = Speed::new(options.speed);
        let cluster = Arc::new(Cluster {
            store: Arc::new(Store::new(network.clone(), speed)),
            speed,
            network,
            dir: home.path().to_owned(),
            binary: options.binary,
            defect: options.defect,
            stopping: CancellationToken::new(),
            spawner: Mutex::new(Some(spawner)),
            containers: Containers::default(),
            power: Power::new((0..=options.workers).map(node_name)),
            hurts: Hurts::default(),
        });
        let (ready, is_ready) = oneshot::channel();
        let (hosted, api) = (cluster.clone(), Api { cluster: cluster.clone(), token: token.clone() });
        let workers = options.workers;
        let thread = thread::Builder::new()
            .name("sandbox".into())
            .spawn(move || {
                host(&hosted, workers, listener, &identity, api, ready);
                // Nothing runs any more: the thread that started it all may end, and what it left behind be removed.
                hosted.spawner.lock().expect("no holder of this lock panics").take();
                drop(home);
            })
            .map_err(SandboxError::Thread)?;
        let sandbox = Self { cluster, address, authority, token, thread: Some(thread) };
        is_ready.await.map_err(|_| SandboxError::Ended)?.map_err(SandboxError::Thread)?;
        Ok(sandbox)
    }

    /// Where the API is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The range of loopback addresses that nodes, pods and services have theirs from.
    #[must_use]
    pub fn network(&self) -> String {
        self.cluster.network.range()
    }

    /// Where volumes and logs are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.cluster.dir
    }

    /// How a client finds the sandbox and is let in, for `kube`. Holds the token.
    #[must_use]
    pub fn kubeconfig(&self) -> Kubeconfig {
        serde_json::from_value(self.kubeconfig_document()).expect("our own kubeconfig can be read")
    }

    /// The same as a document that `kubectl` reads: JSON, which is YAML too. Holds the token.
    #[must_use]
    pub fn kubeconfig_text(&self) -> String {
        format!("{:#}\n", self.kubeconfig_document())
    }

    fn kubeconfig_document(&self) -> Value {
        const NAME: &str = "comeback-sandbox";
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": NAME, "preferences": {},
            "clusters": [{ "name": NAME, "cluster": {
                "server": format!("https://{}", self.address), "certificate-authority-data": BASE64.encode(&self.authority),
            } }],
            "users": [{ "name": NAME, "user": { "token": &*self.token } }],
            "contexts": [{ "name": NAME, "context": { "cluster": NAME, "user": NAME, "namespace": "default" } }],
        })
    }

    /// A client that knows the sandbox from its kubeconfig, and that reports every refusal instead of trying again.
    pub async fn client(&self) -> Result<kube::Client, SandboxError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| SandboxError::Client(error);
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(self.kubeconfig(), &options).await;
        let mut config = config.map_err(|error| failed(error.into()))?;
        config.default_retry = false;
        kube::Client::try_from(config).map_err(|error| failed(error.into()))
    }

    /// Stops everything, and returns when no process and no directory is left.
    pub async fn stop(mut self) {
        self.cluster.stopping.cancel();
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join().ok());
            tokio::time::timeout(STOP_TIMEOUT, joined).await.ok();
        }
    }
}

/// Without the token.
impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, address, .. } = self;
        f.debug_struct("Sandbox").field("address", address).field("dir", &cluster.dir).finish_non_exhaustive()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.cluster.stopping.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The sandbox's own thread: everything runs in here until it is told to stop.
fn host(
    cluster: &Arc<Cluster>,
    workers: u8,
    listener: std::net::TcpListener,
    identity: &Identity,
    api: Api,
    ready: oneshot::Sender<io::Result<()>>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).thread_name("sandbox-worker").enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            ready.send(Err(error)).ok();
            return;
        }
    };
    runtime.block_on(async {
        let listening = TcpListener::from_std(listener)
            .and_then(|listener| TlsListener::new(listener, identity.config.clone(), cluster.stopping.clone()));
        let listener = match listening {
            Ok(listener) => listener,
            Err(error) => {
                ready.send(Err(error)).ok();
                return;
            }
        };
        furnish(cluster, workers);
        let mut parts = JoinSet::new();
        control::start(cluster, &mut parts);
        for number in 0..=workers {
            parts.spawn(kubelet::run(cluster.clone(), node_name(number), number));
        }
        parts.spawn(proxy::run(cluster.clone()));
        let stopping = cluster.stopping.clone();
        let server = axum::serve(listener, api::router(api)).with_graceful_shutdown(stopping.clone().cancelled_owned());
        let server = tokio::spawn(async move { server.await });
        ready.send(Ok(())).ok();
        stopping.cancelled().await;
        // Kubelets return when their processes are gone.
        while parts.join_next().await.is_some() {}
        tokio::time::timeout(DRAIN_TIMEOUT, server).await.ok();
    });
    runtime.shutdown_timeout(DRAIN_TIMEOUT);
    // Belt and braces: a kubelet that panicked may have left something.
    for left in cluster.containers.take() {
        left.process.kill_all();
    }
}

fn node_name(number: u8) -> String {
    if number == 0 { "control-plane".to_owned() } else { format!("worker-{number}") }
}

/// What a new cluster has in it.
fn furnish(cluster: &Cluster, workers: u8) {
    let make = |kind, object| cluster.store.create(kind, object, false).expect("the store is new and what goes into it is valid");
    for name in NAMESPACES {
        make(Kind::Namespace, json!({ "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } } }));
    }
    for number in 0..=workers {
        kubelet::register(cluster, &node_name(number), number, &uuid::Uuid::new_v4().to_string());
    }
    make(Kind::StorageClass, control::volumes::class());
}

impl Cluster {
    /// The thread that starts processes; `None` once the sandbox has stopped.
    fn spawner(&self) -> Option<Spawner> {
        if self.stopping.is_cancelled() {
            return None;
        }
        self.spawner.lock().expect("no holder of this lock panics").clone()
    }

    /// Whether uncordoning that node is to fail: the defect of an undo that fails.
    fn is_stuck(&self, key: &Key) -> bool {
        self.defect == Some(Defect::UndoFails)
            && key.kind == Kind::Node
            && self.store.get(key.kind, "", &key.name).is_some_and(|node| node.flag("/spec/unschedulable"))
    }
}

/// Refuses what a client wants of a node that is [stuck](Cluster::is_stuck), if it is to be uncordoned.
fn refuse_uncordon(is_stuck: bool, wanted: &Value) -> Result<(), Refusal> {
    if is_stuck && !wanted.flag("/spec/unschedulable") {
        return Err(Refusal::internal("this sandbox was told not to uncordon (defect: an undo that fails)"));
    }
    Ok(())
}
