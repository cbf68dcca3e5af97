//! The life of one pod on its node.
//!
//! 1. Its volumes are attached here; then they are in use, and mounted.
//! 2. It gets an address.
//! 3. Its containers are started, probed, and started again when they end, until the pod is deleted or all have ended for good.
//! 4. When it is deleted: SIGTERM to the first process of each container, SIGKILL to all of it when the grace period is over; then the volumes are
//!    let go and the object is removed. When the object vanishes (a forced deletion) the containers are stopped in the same way, since a kubelet gives
//!    every one of them a second at least: they run on beside the pod that replaces theirs, and keep their volumes until they have ended.
//!
//! The order of the last steps is a law: *volumes are let go only when no process of the pod is left*, so that the next node never writes beside
//! this one.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    super::{
        Cluster,
        control::volumes as controller,
        events::{Source, Tone, tell, tell_of_field},
        kinds::Kind,
        object::{self, Look},
        process::{Exit, Process},
        refusal::Refusal,
        store::{Deletion, Follow, Key, Part},
    },
    DIES_WITHIN, Kubelet,
    lives::{Container, Life},
    probe::Report,
    status::{Frame, PodSeen},
    volumes::{self, Mounts},
};

/// How often a kubelet looks which containers have ended.
pub(super) const RELIST: Duration = Duration::from_secs(1);
/// How often a kubelet tries again what could not be done: mounting, an address, a container's configuration.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(10);
/// A kubelet always gives a container this many seconds to stop in order.
const SHORTEST_GRACE: i64 = 1;
/// How many reports of probes may wait.
const REPORTS: usize = 64;

/// What a kubelet keeps of a pod.
pub(super) struct Worker {
    pub(super) kubelet: Arc<Kubelet>,
    pub(super) key: Key,
    pub(super) pod: Arc<Value>,
    since: String,
    pub(super) address: Option<Ipv4Addr>,
    /// Whether a container was started here since the address was taken: then the address is told.
    pub(super) has_started: bool,
    /// Whether everything is over, and what the containers shared is taken away.
    is_taken_down: bool,
    pub(super) mounts: Arc<Mounts>,
    /// The persistent volumes that are in use because of this pod.
    in_use: Vec<String>,
    pub(super) containers: Vec<Container>,
    changes: Follow,
    pub(super) reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    /// The probes of all lives of all containers, and the processes that they started.
    pub(super) probes: TaskTracker,
}

/// What the store says of the pod now.
enum Fate {
    Stays,
    Leaves,
    Gone,
}

/// Runs a pod until it is gone, or has ended for good, or the sandbox stops.
pub(super) async fn run(kubelet: Arc<Kubelet>, pod: Arc<Value>) {
    let cluster = kubelet.cluster.clone();
    // A pod with a start time has been here before: power was cut, and this is another run of the kubelet.
    let was_here = pod.has("/status/startTime");
    let make = |spec: &Value| {
        if was_here { Container::recovered(spec, &pod, cluster.speed) } else { Container::new(spec, cluster.speed) }
    };
    let containers: Vec<_> = pod.list("/spec/containers").iter().map(make).collect();
    let mut worker = Worker {
        key: Key::of(Kind::Pod, &pod),
        since: if was_here { pod.text("/status/startTime").to_owned() } else { object::now() },
        address: None,
        has_started: false,
        is_taken_down: false,
        mounts: Arc::default(),
        in_use: Vec::new(),
        containers,
        changes: cluster.store.follow(&[Kind::Pod, Kind::PersistentVolumeClaim, Kind::VolumeAttachment, Kind::Secret, Kind::ConfigMap]),
        reports: mpsc::channel(REPORTS),
        probes: TaskTracker::new(),
        pod,
        kubelet,
    };
    if worker.containers.iter().any(|container| container.has_lived) && !worker.pod.is_terminating() {
        worker.tell(Tone::Normal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.");
    }
    worker.live().await;
    worker.end_probes().await;
    worker.let_go();
}

impl Worker {
    /// The cluster.
    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.kubelet.cluster
    }

    /// Tells something of the pod.
    pub(super) fn tell(&self, tone: Tone, reason: &str, message: &str) {
        tell(&self.cluster().store, Source::kubelet(&self.kubelet.node), &self.pod, tone, reason, message);
    }

    /// Tells something of one of its containers.
    pub(super) fn tell_of(&self, container: usize, tone: Tone, reason: &str, message: &str) {
        let field = format!("spec.containers{{{}}}", self.containers[container].spec.text("/name"));
        tell_of_field(&self.cluster().store, Source::kubelet(&self.kubelet.node), &self.pod, &field, tone, reason, message);
    }

    /// Looks at the pod again.
    fn fate(&mut self) -> Fate {
        match self.cluster().store.get(Kind::Pod, &self.key.namespace, &self.key.name) {
            Some(now) if now.uid() == self.pod.uid() => {
                let leaves = now.is_terminating();
                self.pod = now;
                if leaves { Fate::Leaves } else { Fate::Stays }
            }
            _ => Fate::Gone,
        }
    }

    async fn live(&mut self) {
        self.publish();
        if !self.prepare().await {
            return;
        }
        self.publish();
        let stopping = self.cluster().stopping.clone();
        let mut relist = interval(self.cluster().speed.of(RELIST));
        relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.awake().await;
            match self.fate() {
                Fate::Stays => {}
                Fate::Leaves | Fate::Gone => return self.leave().await,
            }
            self.start_what_is_due().await;
            self.publish();
            if self.is_over() {
                // Whoever deleted it before that was told gave it time, and waits for us. From now on a deletion is immediate.
                if matches!(self.fate(), Fate::Leaves) {
                    self.finish().await;
                }
                return;
            }
            let due = self.next_due();
            tokio::select! {
                biased;
                () = stopping.cancelled() => return self.kill().await,
                () = self.changes.changed() => {}
                Some(report) = self.reports.1.recv() => self.take(&report),
                _ = relist.tick() => self.relist(),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.kill_what_is_overdue(),
            }
        }
    }

    /// Waits for the volumes and the address. Returns false if the pod went before it began.
    async fn prepare(&mut self) -> bool {
        let stopping = self.cluster().stopping.clone();
        let mut told = String::new();
        loop {
            self.awake().await;
            match self.fate() {
                Fate::Stays => {}
                Fate::Leaves => {
                    self.leave().await;
                    return false;
                }
                Fate::Gone => return false,
            }
            let why = match self.mount() {
                Ok(()) => match self.take_address() {
                    Ok(()) => return true,
                    Err(why) => ("FailedCreatePodSandBox", why),
                },
                Err(why) => ("FailedMount", why),
            };
            // A volume on its way is no failure worth telling; a mount that fails is, once.
            if !why.1.contains("is not attached") && told != why.1 {
                self.tell(Tone::Warning, why.0, &why.1);
                told = why.1;
            }
            let again = self.cluster().speed.of(TRY_AGAIN);
            tokio::select! {
                biased;
                () = stopping.cancelled() => return false,
                () = self.changes.changed() => {}
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    /// Waits while the kubelet is stopped, or the node cut off or frozen: unless the sandbox stops.
    async fn awake(&self) {
        let cluster = self.cluster();
        tokio::select! {
            biased;
            () = cluster.hurts.awake(&self.kubelet.node) => {}
            () = cluster.stopping.cancelled() => {}
        }
    }

    fn mount(&mut self) -> Result<(), String> {
        let cluster = self.cluster().clone();
        let (node, pod) = (self.kubelet.node.clone(), self.pod.clone());
        let wanted = volumes::attached(&cluster, &node, &pod)?;
        for volume in wanted.values() {
            let volume = controller::unique_name(volume);
            if !self.in_use.contains(&volume) {
                self.kubelet.begin_use(&volume);
                self.in_use.push(volume);
            }
        }
        // Asked again now that they are in use: what was attached before may have been detached in between. From here on whoever wants to detach it
        // sees that it is in use, after they have said that it is not attached and before they act on it.
        let wanted: BTreeMap<_, _> = volumes::attached(&cluster, &node, &pod).inspect_err(|_| self.let_go_of_volumes())?;
        let home = super::pod_directory(&cluster.dir, pod.uid());
        std::fs::create_dir_all(&home).map_err(|error| format!("could not make `{}`: {error}", home.display()))?;
        self.mounts = Arc::new(volumes::mount(&cluster, &pod, &wanted)?);
        Ok(())
    }

    fn take_address(&mut self) -> Result<(), String> {
        if self.address.is_none() {
            let address = self.cluster().network.take_pod();
            let address = address.ok_or("Failed to create pod sandbox: no address is free in the range of pods")?;
            self.cluster().power.add_address(&self.kubelet.node, address);
            self.address = Some(address);
        }
        Ok(())
    }

    /// The pod is being deleted, or its object is gone: an orderly stop, then the object goes if it is there.
    async fn leave(&mut self) {
        self.awake().await;
        let began = Instant::now();
        // That it is to go has been seen.
        self.publish();
        for n in 0..self.containers.len() {
            let Life::Running(run) = &self.containers[n].life else { continue };
            run.probes.abort();
            run.process.signal_first(Signal::SIGTERM);
            let message = format!("Stopping container {}", self.containers[n].spec.text("/name"));
            self.tell_of(n, Tone::Normal, "Killing", &message);
        }
        let stopping = self.cluster().stopping.clone();
        loop {
            for n in 0..self.containers.len() {
                if let Life::Running(run) = &self.containers[n].life
                    && let Some(exit) = run.process.exit()
                {
                    self.end(n, &exit);
                }
            }
            let live: Vec<_> = self
                .containers
                .iter()
                .filter_map(|container| if let Life::Running(run) = &container.life { Some(run.process.clone()) } else { None })
                .collect();
            let Some(first) = live.first().cloned() else { break };
            // The deadline may move closer: a second deletion can shorten the time. Of an object that is gone, what it said last counts.
            self.fate();
            let asked = self.pod.int("/metadata/deletionGracePeriodSeconds");
            let grace = asked.or_else(|| self.pod.int("/spec/terminationGracePeriodSeconds")).unwrap_or(30);
            let deadline = began + self.cluster().speed.grace(grace.max(SHORTEST_GRACE));
            if Instant::now() >= deadline {
                return self.kill_and_finish().await;
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => return self.kill().await,
                _ = first.ended() => {}
                () = self.changes.changed() => {}
                () = sleep_until(deadline) => {}
            }
        }
        self.finish().await;
    }

    async fn kill_and_finish(&mut self) {
        self.kill().await;
        self.finish().await;
    }

    /// Ends all probes, and waits until no command of theirs is left: they run beside the containers, on the same volumes.
    async fn end_probes(&mut self) {
        for container in &self.containers {
            if let Life::Running(run) = &container.life {
                run.probes.abort();
            }
        }
        self.probes.close();
        let stopping = self.cluster().stopping.clone();
        tokio::select! {
            biased;
            () = self.probes.wait() => {}
            () = async {
                stopping.cancelled().await;
                sleep(DIES_WITHIN).await;
            } => {}
        }
    }

    /// Kills every process of the pod and returns when they are gone.
    async fn kill(&mut self) {
        for container in &self.containers {
            if let Life::Running(run) = &container.life {
                run.probes.abort();
                drop(killing(&run.process));
            }
        }
        for n in 0..self.containers.len() {
            let Life::Running(run) = &self.containers[n].life else { continue };
            let process = run.process.clone();
            if let Some(exit) = self.end_of_killed(n, &process).await {
                self.end(n, &exit);
            }
        }
    }

    /// Waits for a killed container however long it takes, since until then it may write. Only a sandbox that stops gives up on it.
    async fn end_of_killed(&mut self, n: usize, process: &Process) -> Option<Exit> {
        if let Ok(exit) = timeout(DIES_WITHIN, process.ended()).await {
            return Some(exit);
        }
        self.tell_stuck(n);
        let stopping = self.cluster().stopping.clone();
        tokio::select! {
            biased;
            exit = process.ended() => Some(exit),
            () = stopping.cancelled() => None,
        }
    }

    /// Every process is gone: tells the last state, lets the volumes go, removes the object.
    async fn finish(&mut self) {
        self.end_probes().await;
        for container in &mut self.containers {
            if let Life::Ended { due, .. } = &mut container.life {
                *due = None;
            }
        }
        self.is_taken_down = true;
        self.publish();
        self.let_go_of_volumes();
        let how = Deletion { grace: Some(0), uid: Some(self.pod.uid().to_owned()), ..Deletion::default() };
        // Somebody else may have removed it already.
        self.cluster().store.delete(&self.key, &how).ok();
    }

    fn let_go_of_volumes(&mut self) {
        for volume in std::mem::take(&mut self.in_use) {
            self.kubelet.end_use(&volume);
        }
    }

    /// Gives back what the pod had of its node, except for its directory: what its containers said stays as long as the object does.
    fn let_go(&mut self) {
        self.let_go_of_volumes();
        if let Some(address) = self.address.take() {
            self.cluster().power.remove_address(&self.kubelet.node, address);
            self.cluster().network.give_back(address.into());
        }
    }

    /// Writes the pod's status.
    pub(super) fn publish(&self) {
        let host = self.cluster().store.get(Kind::Node, "", &self.kubelet.node);
        let host = host.and_then(|node| Some(node.list("/status/addresses").first()?.text("/address").to_owned())).unwrap_or_default();
        let containers = self.containers.iter().map(Container::seen).collect();
        let frame = match self.address {
            _ if self.is_taken_down => Frame::Gone,
            None => Frame::Missing,
            Some(_) => Frame::Ready,
        };
        let address = self.address.filter(|_| self.has_started);
        let seen = PodSeen { frame, address, host, since: &self.since, containers };
        let uid = self.pod.uid();
        let write = |pod: &mut Value| {
            if pod.uid() != uid {
                return Err(Refusal::not_found(Kind::Pod, &self.key.name));
            }
            seen.write(pod);
            Ok(())
        };
        // A pod that is gone has nobody to tell.
        self.cluster().store.update(&self.key, Part::Status, false, write).ok();
    }
}

/// Kills all processes of a container, where reading all of `/proc` holds up nobody.
pub(super) fn killing(process: &Arc<Process>) -> JoinHandle<()> {
    let process = process.clone();
    tokio::task::spawn_blocking(move || process.kill_all())
}
