//! Service addresses: what kube-proxy is to a real cluster.
//!
//! Each port of each service has a listener on the service's address, which is there only while the service has a ready endpoint: without one the
//! kernel itself refuses the connection, as it does behind kube-proxy. A connection goes to one of the endpoints that are ready when it is made, and
//! lives as long as its two ends do, whatever becomes of the endpoint's readiness. A half-close is passed on as a half-close and a reset as a reset.
//!
//! A connection to a pod whose node has [no power](super::power) hangs, whether it is open already or new: nobody is there to say that nobody is there. When power
//! returns, the machine knows nothing of it and it is reset. The endpoint stays until the control plane takes it away.
//!
//! # Caveats
//! kube-proxy rewrites packets; this is a process that accepts and connects. If the chosen endpoint refuses the connection (its process has died and
//! the kubelet has not seen it yet), the client sees its connection accepted and then reset, where on a real cluster it would see it refused. In the same way a
//! new connection to a dead node is accepted and then silent, where on a real cluster the connecting itself would hang, or fail after some seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{
    Cluster,
    events::{Source, Tone, tell},
    kinds::Kind,
    object::Look,
    power::{Setting, State},
};

/// How long connecting to an endpoint may take; on loopback the answer is immediate.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before a listener that could not be opened is tried again.
const LISTEN_AGAIN: Duration = Duration::from_millis(20);
/// How long accepting pauses after the kernel refused it, for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How much is carried at once.
const BUFFER: usize = 64 * 1024;

type Endpoints = Arc<Mutex<Vec<SocketAddr>>>;

struct Open {
    endpoints: Endpoints,
    closing: CancellationToken,
    closed: tokio::task::JoinHandle<()>,
}

/// Keeps the listeners as the services and endpoints are, until the sandbox stops.
pub(crate) async fn run(cluster: Arc<Cluster>) {
    let mut changes = cluster.store.follow(&[Kind::Service, Kind::EndpointSlice]);
    let mut open: BTreeMap<SocketAddr, Open> = BTreeMap::new();
    // Where we cannot listen, and said so.
    let mut told = BTreeSet::new();
    loop {
        let wanted = wanted(&cluster);
        told.retain(|address| wanted.contains_key(address));
        let gone: Vec<_> = open.keys().filter(|address| !wanted.contains_key(*address)).copied().collect();
        for address in gone {
            let closing = open.remove(&address).expect("it was just listed");
            closing.closing.cancel();
            // The socket is closed when the task is over: from then on connections are refused.
            closing.closed.await.ok();
        }
        let mut again = false;
        for (address, (service, endpoints)) in wanted {
            if let Some(known) = open.get(&address) {
                *known.endpoints.lock().expect("no holder of this lock panics") = endpoints;
                continue;
            }
            let listener = match TcpListener::bind(address).await {
                Ok(listener) => listener,
                Err(error) => {
                    if told.insert(address) {
                        let port = address.port();
                        let why = format!(
                            "could not listen on {address}: {error}; if another program listens on port {port} of every address, clients of this \
                             service reach that program: stop it, or give it an address of its own"
                        );
                        tell(&cluster.store, Source::controller("kube-proxy"), &service, Tone::Warning, "FailedToListen", &why);
                    }
                    again = true;
                    continue;
                }
            };
            told.remove(&address);
            let endpoints = Arc::new(Mutex::new(endpoints));
            let closing = CancellationToken::new();
            let closed = tokio::spawn(serve(cluster.clone(), listener, endpoints.clone(), closing.clone()));
            open.insert(address, Open { endpoints, closing, closed });
        }
        tokio::select! {
            () = cluster.stopping.cancelled() => return,
            () = changes.changed() => {}
            () = tokio::time::sleep(LISTEN_AGAIN), if again => {}
        }
    }
}

/// The addresses that should listen now, of which service each is, and where it leads.
fn wanted(cluster: &Cluster) -> BTreeMap<SocketAddr, (Arc<Value>, Vec<SocketAddr>)> {
    let slices = cluster.store.list(Kind::EndpointSlice, None);
    let mut wanted = BTreeMap::new();
    for service in cluster.store.list(Kind::Service, None) {
        let Ok(address) = service.text("/spec/clusterIP").parse() else { continue };
        let of_service = |slice: &&Arc<Value>| {
            slice.namespace() == service.namespace() && slice.text("/metadata/labels/kubernetes.io~1service-name") == service.name()
        };
        for port in service.list("/spec/ports") {
            let Some(number) = port.int("/port").and_then(|port| u16::try_from(port).ok()) else { continue };
            let endpoints: Vec<_> = slices.iter().filter(of_service).flat_map(|slice| ready(slice, port.text("/name"))).collect();
            if !endpoints.is_empty() {
                wanted.insert(SocketAddr::new(address, number), (service.clone(), endpoints));
            }
        }
    }
    wanted
}

fn ready(slice: &Value, port: &str) -> Vec<SocketAddr> {
    let found = slice.list("/ports").iter().find(|candidate| candidate.text("/name") == port);
    let Some(number) = found.and_then(|port| port.int("/port")).and_then(|port| u16::try_from(port).ok()) else { return Vec::new() };
    slice
        .list("/endpoints")
        .iter()
        .filter(|endpoint| endpoint.flag("/conditions/ready"))
        .filter_map(|endpoint| Some(SocketAddr::new(endpoint.list("/addresses").first()?.as_str()?.parse().ok()?, number)))
        .collect()
}

async fn serve(cluster: Arc<Cluster>, listener: TcpListener, endpoints: Endpoints, closing: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = cluster.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((client, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let chosen = {
            let endpoints = endpoints.lock().expect("no holder of this lock panics");
            fastrand::choice(endpoints.iter()).copied()
        };
        let cluster = cluster.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = cluster.stopping.cancelled() => {}
                () = carry(&cluster, client, chosen) => {}
            }
        });
    }
}

/// Why a direction of a connection is over before its end.
enum Cut {
    /// One of the two ends is gone.
    Off,
    /// The node of the endpoint has no power: nobody is told.
    Dark(watch::Receiver<Setting>),
}

/// Carries a connection to its endpoint until both directions are over.
async fn carry(cluster: &Cluster, client: TcpStream, endpoint: Option<SocketAddr>) {
    let dark = || endpoint.and_then(|endpoint| cluster.power.is_dark(endpoint.ip()));
    let cut = || dark().map_or(Cut::Off, Cut::Dark);
    if let Some(endpoint) = endpoint {
        // Who is cut off answers when it no longer is, if anybody waits so long.
        cluster.hurts.arrives(cluster, endpoint.ip()).await;
    }
    let connected = match endpoint {
        Some(endpoint) if dark().is_none() && !cluster.hurts.refuses(endpoint.ip()) => {
            tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint)).await.ok().and_then(Result::ok)
        }
        _ => None,
    };
    client.set_nodelay(true).ok();
    let (mut from_client, mut to_client) = client.into_split();
    let outcome = match connected {
        Some(server) => {
            server.set_nodelay(true).ok();
            let (mut from_server, mut to_server) = server.into_split();
            let at = endpoint.expect("it is connected to").ip();
            let to = one_way(&mut from_client, &mut to_server, || None, Way { cluster, at, to_the_pod: true });
            let back = one_way(&mut from_server, &mut to_client, dark, Way { cluster, at, to_the_pod: false });
            let both = async { tokio::try_join!(async { to.await.map_err(|_| cut()) }, async { back.await.map_err(|_| cut()) }) };
            let outcome = tokio::select! {
                outcome = both => outcome,
                () = cluster.hurts.until_reset(at) => Err(Cut::Off),
            };
            if outcome.is_err() {
                // One end was cut off: so is the other.
                reset(to_server);
            }
            outcome.map(drop)
        }
        None => Err(cut()),
    };
    match outcome {
        Ok(()) => return,
        Err(Cut::Off) => {}
        Err(Cut::Dark(mut power)) => {
            // Until it has power again, or the client gives up.
            tokio::select! {
                _ = power.wait_for(|power| power.state == State::On) => {}
                () = swallow(&mut from_client) => {}
            }
        }
    }
    reset(to_client);
}

/// What a direction of a connection goes through: what is hurt on the way to a pod, or from it.
#[derive(Clone, Copy)]
struct Way<'a> {
    cluster: &'a Cluster,
    at: std::net::IpAddr,
    to_the_pod: bool,
}

impl Way<'_> {
    /// Returns when what was sent has arrived.
    async fn pass(self) {
        let Self { cluster, at, to_the_pod } = self;
        if to_the_pod { cluster.hurts.arrives(cluster, at).await } else { cluster.hurts.passes(cluster, at).await }
    }
}

/// Carries one direction. Its end is an error if nobody can be there to have ended it.
async fn one_way(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    dark: impl Fn() -> Option<watch::Receiver<Setting>>,
    way: Way<'_>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        way.pass().await;
        if read == 0 {
            if dark().is_some() {
                return Err(std::io::ErrorKind::HostUnreachable.into());
            }
            // The other direction may go on. Shutting down what is already shut is no failure.
            to.shutdown().await.ok();
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// Takes what a client says to nobody, until it ends.
async fn swallow(from: &mut OwnedReadHalf) {
    let mut buffer = vec![0; BUFFER];
    while from.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

/// Lets the kernel reset the connection when its other half is dropped.
fn reset(half: OwnedWriteHalf) {
    half.as_ref().set_zero_linger().ok();
    // Dropped, it would be closed in order first.
    half.forget();
}
