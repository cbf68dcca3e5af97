//! Probes: startup, liveness, readiness.
//!
//! One task for each running container. Liveness and readiness begin when the startup probe has succeeded. Periods and delays are divided by the
//! sandbox's speed; the time that one attempt may take is too, but never below [`SHORTEST_TIMEOUT`]: the machine does not get faster.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    super::{Cluster, object::Look},
    container::Setting,
    volumes::Mounts,
};

/// An attempt has at least this long, whatever the speed.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(200);

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Whether it has started.
    Startup,
    /// Whether it lives.
    Liveness,
    /// Whether it may take traffic.
    Readiness,
}

impl Purpose {
    fn field(self) -> &'static str {
        match self {
            Self::Startup => "startupProbe",
            Self::Liveness => "livenessProbe",
            Self::Readiness => "readinessProbe",
        }
    }

    /// The word in events.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// What a probe found.
#[derive(Debug)]
pub(super) struct Report {
    /// The container that was probed.
    pub(super) container: usize,
    /// Its id: a report about an earlier life is of no interest.
    pub(super) id: String,
    /// What was found.
    pub(super) finding: Finding,
}

/// What a probe found.
#[derive(Debug)]
pub(super) enum Finding {
    /// The startup probe has succeeded.
    Started,
    /// Its readiness changed.
    Ready(bool),
    /// An attempt failed.
    Unhealthy(Purpose, String),
    /// It failed as often as it may: the container is to be killed.
    Doomed(Purpose),
}

/// All that probing a container needs.
#[derive(Debug)]
pub(super) struct Probing {
    /// The cluster.
    pub(super) cluster: Arc<Cluster>,
    /// The pod.
    pub(super) pod: Arc<Value>,
    /// The container in its spec.
    pub(super) spec: Value,
    /// Its place there.
    pub(super) container: usize,
    /// Its id.
    pub(super) id: String,
    /// The pod's address.
    pub(super) address: std::net::Ipv4Addr,
    /// The pod's volumes.
    pub(super) mounts: Arc<Mounts>,
    /// Who is told.
    pub(super) reports: mpsc::Sender<Report>,
    /// Where the commands of probes are counted until they have ended.
    pub(super) tracker: TaskTracker,
}

/// Probes a container until it is told to stop, by being dropped, or nobody listens any more.
pub(super) async fn run(probing: Probing) {
    if probing.spec.has("/startupProbe") && !probing.watch(Purpose::Startup).await {
        return;
    }
    if probing.tell(Finding::Started).await.is_none() {
        return;
    }
    if !probing.spec.has("/readinessProbe") && probing.tell(Finding::Ready(true)).await.is_none() {
        return;
    }
    let when_asked = async |purpose: Purpose| {
        if probing.spec.has(&format!("/{}", purpose.field())) {
            probing.watch(purpose).await;
        }
    };
    tokio::join!(when_asked(Purpose::Liveness), when_asked(Purpose::Readiness));
}

impl Probing {
    async fn tell(&self, finding: Finding) -> Option<()> {
        self.reports.send(Report { container: self.container, id: self.id.clone(), finding }).await.ok()
    }

    /// Attempts again and again. Returns true when a startup probe has succeeded, false when there is nothing more to watch.
    async fn watch(&self, purpose: Purpose) -> bool {
        let probe = &self.spec[purpose.field()];
        let speed = self.cluster.speed;
        let seconds = |field: &str, otherwise: i64| speed.seconds(probe.int(field).unwrap_or(otherwise));
        let threshold = |field: &str, otherwise: i64| probe.int(field).unwrap_or(otherwise).max(1);
        let (successes_needed, failures_allowed) = (threshold("/successThreshold", 1), threshold("/failureThreshold", 3));
        let limit = seconds("/timeoutSeconds", 1).max(SHORTEST_TIMEOUT);
        sleep(seconds("/initialDelaySeconds", 0)).await;
        let mut ticks = interval(seconds("/periodSeconds", 10).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut successes, mut failures, mut is_ready) = (0, 0, false);
        loop {
            ticks.tick().await;
            // A kubelet that is stopped probes nobody.
            self.cluster.hurts.awake(self.pod.text("/spec/nodeName")).await;
            let found = self.attempt(probe, limit).await;
            let told = match found {
                Ok(()) => {
                    successes += 1;
                    failures = 0;
                    if successes < successes_needed {
                        continue;
                    }
                    match purpose {
                        Purpose::Startup => return true,
                        Purpose::Readiness if !is_ready => {
                            is_ready = true;
                            self.tell(Finding::Ready(true)).await
                        }
                        Purpose::Readiness | Purpose::Liveness => Some(()),
                    }
                }
                Err(why) => {
                    successes = 0;
                    failures += 1;
                    let mut told = self.tell(Finding::Unhealthy(purpose, why)).await;
                    if failures >= failures_allowed {
                        match purpose {
                            Purpose::Startup | Purpose::Liveness => {
                                self.tell(Finding::Doomed(purpose)).await;
                                return false;
                            }
                            Purpose::Readiness if is_ready => {
                                is_ready = false;
                                told = self.tell(Finding::Ready(false)).await;
                            }
                            Purpose::Readiness => {}
                        }
                    }
                    told
                }
            };
            if told.is_none() {
                return false;
            }
        }
    }

    async fn attempt(&self, probe: &Value, limit: Duration) -> Result<(), String> {
        if probe.has("/tcpSocket") {
            let port = self.port(&probe["tcpSocket"]["port"])?;
            let at = std::net::SocketAddr::from((self.address, port));
            if self.cluster.hurts.is_cut_off(&self.cluster, self.address.into()) {
                sleep(limit).await;
                return Err(format!("dial tcp {at}: i/o timeout"));
            }
            return match timeout(limit, TcpStream::connect(at)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("dial tcp {at}: connect: {error}")),
                Err(_) => Err(format!("dial tcp {at}: i/o timeout")),
            };
        }
        let setting =
            Setting { cluster: &self.cluster, pod: &self.pod, container: &self.spec, address: self.address, mounts: &self.mounts };
        let command = setting.probe(probe.list("/exec/command"))?;
        let spawner = self.cluster.spawner().ok_or("the sandbox is stopping")?;
        let process = spawner.spawn(command, Some(self.tracker.token())).await.map_err(|error| error.to_string())?;
        // Whoever stops probing half-way must not leave the command behind.
        let guard = KillOnDrop(process);
        match timeout(limit, guard.0.ended()).await {
            Ok(exit) if exit.code == 0 => Ok(()),
            Ok(exit) => Err(format!("command exited with code {}", exit.code)),
            Err(_) => Err(format!("command timed out after {limit:?}")),
        }
    }

    fn port(&self, port: &Value) -> Result<u16, String> {
        let number = port.as_i64().or_else(|| {
            let named = self.spec.list("/ports").iter().find(|candidate| candidate.text("/name") == port.as_str().unwrap_or_default());
            named.and_then(|port| port.int("/containerPort")).or_else(|| port.as_str()?.parse().ok())
        });
        number.and_then(|port| u16::try_from(port).ok()).ok_or_else(|| format!("couldn't find port: {port}"))
    }
}

struct KillOnDrop(Arc<super::super::process::Process>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill_all();
    }
}
