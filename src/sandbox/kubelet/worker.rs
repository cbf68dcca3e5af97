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
use serde_json::{Value, json};
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
    Kubelet,
    back_off::BackOff,
    container::{self, Setting, Unmade},
    probe::{self, Finding, Probing, Report},
    status::{PodSeen, Seen},
    volumes::{self, Mounts},
};

/// How often a kubelet looks which containers have ended.
const RELIST: Duration = Duration::from_secs(1);
/// How often a kubelet tries again what could not be done: mounting, an address, a container's configuration.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// After SIGKILL a process is gone within this, or it is stuck in the kernel: then that is told, and a sandbox that stops leaves it.
const DIES_WITHIN: Duration = Duration::from_secs(5);
/// A kubelet always gives a container this many seconds to stop in order.
const SHORTEST_GRACE: i64 = 1;
/// How many reports of probes may wait.
const REPORTS: usize = 64;

/// The exit code of a container whose command could not be run.
const CANNOT_START: i64 = 128;

struct Worker {
    kubelet: Arc<Kubelet>,
    key: Key,
    pod: Arc<Value>,
    since: String,
    address: Option<Ipv4Addr>,
    mounts: Arc<Mounts>,
    /// The persistent volumes that are in use because of this pod.
    in_use: Vec<String>,
    containers: Vec<Container>,
    changes: Follow,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    /// The probes of all lives of all containers, and the processes that they started.
    probes: TaskTracker,
}

struct Container {
    spec: Value,
    life: Life,
    /// `lastState`.
    last: Value,
    id: String,
    restarts: i64,
    /// Whether there was a life before the next one.
    has_lived: bool,
    back_off: BackOff,
}

enum Life {
    /// Not running, for a reason, until `due`.
    Waiting { reason: &'static str, message: String, due: Instant },
    /// Running.
    Running(Run),
    /// Ended; `due` is when it starts again, if it does.
    Ended { state: Value, ended: Instant, due: Option<Instant> },
}

struct Run {
    process: Arc<Process>,
    since: String,
    started: bool,
    ready: bool,
    /// When SIGKILL follows the SIGTERM that was sent.
    kill_at: Option<Instant>,
    /// Whether it was told that a killed process does not die.
    told_stuck: bool,
    probes: JoinHandle<()>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.probes.abort();
    }
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
    let now = Instant::now();
    let containers = pod
        .list("/spec/containers")
        .iter()
        .map(|spec| Container {
            spec: spec.clone(),
            life: Life::Waiting { reason: "ContainerCreating", message: String::new(), due: now },
            last: json!({}),
            id: String::new(),
            restarts: 0,
            has_lived: false,
            back_off: BackOff::new(cluster.speed),
        })
        .collect();
    let mut worker = Worker {
        key: Key::of(Kind::Pod, &pod),
        since: object::now(),
        address: None,
        mounts: Arc::default(),
        in_use: Vec::new(),
        containers,
        changes: cluster.store.follow(&[Kind::Pod, Kind::PersistentVolumeClaim, Kind::VolumeAttachment, Kind::Secret, Kind::ConfigMap]),
        reports: mpsc::channel(REPORTS),
        probes: TaskTracker::new(),
        pod,
        kubelet,
    };
    worker.live().await;
    worker.end_probes().await;
    worker.let_go();
}

impl Worker {
    fn cluster(&self) -> &Arc<Cluster> {
        &self.kubelet.cluster
    }

    fn tell(&self, tone: Tone, reason: &str, message: &str) {
        tell(&self.cluster().store, Source::kubelet(&self.kubelet.node), &self.pod, tone, reason, message);
    }

    fn tell_of(&self, container: usize, tone: Tone, reason: &str, message: &str) {
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
        let stopping = self.cluster().stopping.clone();
        let mut relist = interval(self.cluster().speed.of(RELIST));
        relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
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
            self.address = Some(address.ok_or("Failed to create pod sandbox: no address is free in the range of pods")?);
        }
        Ok(())
    }

    async fn start_what_is_due(&mut self) {
        let now = Instant::now();
        for n in 0..self.containers.len() {
            let (is_due, ended) = match &self.containers[n].life {
                Life::Waiting { due, .. } => (*due <= now, None),
                Life::Ended { due, ended, .. } => (due.is_some_and(|due| due <= now), Some(*ended)),
                Life::Running(_) => (false, None),
            };
            if is_due {
                if ended.is_some() {
                    // Whoever watches sees the end before the new life, however soon that begins.
                    self.publish();
                }
                self.start(n, ended.unwrap_or(now)).await;
            } else if let Life::Ended { state, ended, due: Some(due) } = &self.containers[n].life {
                // It waits: what it was becomes the last state, as soon as that has been told.
                let (state, ended, due) = (state.clone(), *ended, *due);
                self.publish();
                self.back_off(n, &state, ended, due);
            }
        }
    }

    fn back_off(&mut self, n: usize, state: &Value, ended: Instant, due: Instant) {
        let (namespace, name, uid) = (self.key.namespace.clone(), self.key.name.clone(), self.pod.uid().to_owned());
        let container = &mut self.containers[n];
        let wait = container.back_off.wait(ended).unwrap_or_default();
        let which = container.spec.text("/name").to_owned();
        let message = format!("back-off {} restarting failed container={which} pod={name}_{namespace}({uid})", short(wait));
        container.last = state.clone();
        container.life = Life::Waiting { reason: "CrashLoopBackOff", message, due };
        let message = format!("Back-off restarting failed container {which} in pod {name}_{namespace}({uid})");
        self.tell_of(n, Tone::Warning, "BackOff", &message);
    }

    async fn start(&mut self, n: usize, ended: Instant) {
        let now = Instant::now();
        let speed = self.cluster().speed;
        let image = self.containers[n].spec.text("/image").to_owned();
        if !container::has_image(&image) {
            return self.fail_to_pull(n, &image, now);
        }
        let cluster = self.cluster().clone();
        let address = self.address.expect("taken before any container is started");
        let (pod, mounts) = (self.pod.clone(), self.mounts.clone());
        let name = self.containers[n].spec.text("/name").to_owned();
        let life = self.containers[n].restarts + i64::from(self.containers[n].has_lived);
        let made = {
            let spec = &self.containers[n].spec;
            Setting { cluster: &cluster, pod: &pod, container: spec, address, mounts: &mounts }.command()
        };
        let mut command = match made {
            Ok(command) => command,
            Err(Unmade::Config(why)) => {
                self.tell_of(n, Tone::Warning, "Failed", &format!("Error: {why}"));
                let due = now + speed.of(TRY_AGAIN);
                self.containers[n].life = Life::Waiting { reason: "CreateContainerConfigError", message: why, due };
                return;
            }
            Err(Unmade::Start(why)) => return self.fail_to_start(n, life, ended, &why),
        };
        let logs = container::open_log(&cluster, pod.uid(), &name, life);
        let spawner = cluster.spawner();
        let started = match (logs, spawner) {
            (Ok((out, err)), Some(spawner)) => {
                command.stdout(out).stderr(err);
                spawner.spawn(command, None).await
            }
            (Err(error), _) => Err(error),
            (Ok(_), None) => return,
        };
        // Told afterwards: what is told holds up no start.
        self.tell_of(n, Tone::Normal, "Pulled", &format!("Container image \"{image}\" already present on machine"));
        self.tell_of(n, Tone::Normal, "Created", &format!("Created container: {name}"));
        let process = match started {
            Ok(process) => process,
            Err(error) => return self.fail_to_start(n, life, ended, &error.to_string()),
        };
        let id = format!("sandbox://{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        cluster.add_container(&self.key, &name, process.clone());
        let probes = self.probes.spawn(probe::run(Probing {
            cluster: cluster.clone(),
            pod,
            spec: self.containers[n].spec.clone(),
            container: n,
            id: id.clone(),
            address,
            mounts,
            reports: self.reports.0.clone(),
            tracker: self.probes.clone(),
        }));
        let container = &mut self.containers[n];
        if container.has_lived {
            container.back_off.restarted(ended, now);
        }
        if let Life::Ended { state, .. } = &container.life {
            container.last = state.clone();
        }
        let has_probe = |probe: &str| container.spec.has(probe);
        let started = !has_probe("/startupProbe");
        let run = Run {
            process,
            since: object::now(),
            started,
            ready: started && !has_probe("/readinessProbe"),
            kill_at: None,
            told_stuck: false,
            probes,
        };
        container.restarts = life;
        container.has_lived = true;
        container.id = id;
        container.life = Life::Running(run);
        self.tell_of(n, Tone::Normal, "Started", &format!("Started container {name}"));
    }

    fn fail_to_pull(&mut self, n: usize, image: &str, now: Instant) {
        let speed = self.cluster().speed;
        if matches!(self.containers[n].life, Life::Waiting { reason: "ErrImagePull", .. }) {
            let container = &mut self.containers[n];
            let due = container.back_off.due(now);
            container.back_off.restarted(now, now);
            let message = format!("Back-off pulling image \"{image}\"");
            container.life =
                Life::Waiting { reason: "ImagePullBackOff", message: message.clone(), due: due.max(now + speed.of(TRY_AGAIN)) };
            self.tell_of(n, Tone::Normal, "BackOff", &message);
            self.tell_of(n, Tone::Warning, "Failed", "Error: ImagePullBackOff");
            return;
        }
        self.tell_of(n, Tone::Normal, "Pulling", &format!("Pulling image \"{image}\""));
        let message =
            format!("failed to pull image \"{image}\": the sandbox runs its own binary only: images whose name begins with `comeback`");
        self.tell_of(n, Tone::Warning, "Failed", &message);
        self.tell_of(n, Tone::Warning, "Failed", "Error: ErrImagePull");
        self.containers[n].life = Life::Waiting { reason: "ErrImagePull", message, due: now + speed.of(RELIST) };
    }

    /// The command could not be run: that counts as a life that ended at once.
    fn fail_to_start(&mut self, n: usize, life: i64, ended: Instant, why: &str) {
        let now = Instant::now();
        self.tell_of(n, Tone::Warning, "Failed", &format!("Error: failed to start container: {why}"));
        let comes_back = self.pod.text("/spec/restartPolicy") != "Never";
        let container = &mut self.containers[n];
        if container.has_lived {
            container.back_off.restarted(ended, now);
        }
        container.restarts = life;
        container.has_lived = true;
        if container.id.is_empty() {
            container.id = format!("sandbox://{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        }
        let at = object::now();
        let state = json!({ "terminated": {
            "exitCode": CANNOT_START, "reason": "StartError", "message": why, "startedAt": "1970-01-01T00:00:00Z", "finishedAt": at,
            "containerID": container.id,
        } });
        let due = comes_back.then(|| container.back_off.due(now));
        container.life = Life::Ended { state, ended: now, due };
    }

    /// Looks which containers have ended since the last look.
    fn relist(&mut self) {
        for n in 0..self.containers.len() {
            let Life::Running(run) = &self.containers[n].life else { continue };
            if let Some(exit) = run.process.exit() {
                self.end(n, &exit);
            } else if run.process.stuck_for().is_some_and(|time| time > DIES_WITHIN) {
                self.tell_stuck(n);
            }
        }
    }

    /// Tells once that a container's processes were killed and are still there.
    fn tell_stuck(&mut self, n: usize) {
        let Life::Running(run) = &mut self.containers[n].life else { return };
        if !std::mem::replace(&mut run.told_stuck, true) {
            let name = self.containers[n].spec.text("/name");
            let message =
                format!("error killing pod: the processes of container {name} were killed {DIES_WITHIN:?} ago and are still there");
            self.tell_of(n, Tone::Warning, "FailedKillPod", &message);
        }
    }

    fn end(&mut self, n: usize, exit: &Exit) {
        let policy = self.pod.text("/spec/restartPolicy").to_owned();
        let name = self.containers[n].spec.text("/name").to_owned();
        let container = &mut self.containers[n];
        let Life::Running(run) = &container.life else { return };
        self.kubelet.cluster.remove_container(&self.key, &name, &run.process);
        let mut state = json!({
            "exitCode": exit.code, "reason": if exit.code == 0 { "Completed" } else { "Error" },
            "startedAt": run.since, "finishedAt": object::stamp(exit.at), "containerID": container.id,
        });
        if let Some(signal) = exit.signal {
            state["signal"] = signal.into();
        }
        let comes_back = match policy.as_str() {
            "Never" => false,
            "OnFailure" => exit.code != 0,
            _ => true,
        };
        let ended = Instant::from_std(exit.instant);
        let due = comes_back.then(|| container.back_off.due(ended));
        container.life = Life::Ended { state: json!({ "terminated": state }), ended, due };
    }

    /// Takes note of what a probe found.
    fn take(&mut self, report: &Report) {
        let n = report.container;
        let pod_grace = self.pod.int("/spec/terminationGracePeriodSeconds").unwrap_or(30);
        let speed = self.cluster().speed;
        let container = &mut self.containers[n];
        if container.id != report.id {
            return;
        }
        let Life::Running(run) = &mut container.life else { return };
        match &report.finding {
            Finding::Started => run.started = true,
            Finding::Ready(ready) => run.ready = *ready,
            Finding::Unhealthy(purpose, why) => {
                let message = format!("{} probe failed: {why}", purpose.word());
                self.tell_of(n, Tone::Warning, "Unhealthy", &message);
            }
            Finding::Doomed(purpose) => {
                run.kill_at = Some(Instant::now() + speed.grace(pod_grace));
                run.process.signal_first(Signal::SIGTERM);
                let word = purpose.word().to_lowercase();
                let message = format!("Container {} failed {word} probe, will be restarted", container.spec.text("/name"));
                self.tell_of(n, Tone::Normal, "Killing", &message);
            }
        }
    }

    fn kill_what_is_overdue(&mut self) {
        let now = Instant::now();
        for container in &mut self.containers {
            if let Life::Running(run) = &mut container.life
                && run.kill_at.is_some_and(|at| at <= now)
            {
                drop(killing(&run.process));
                run.kill_at = None;
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let due = |container: &Container| match &container.life {
            Life::Waiting { due, .. } => Some(*due),
            Life::Running(run) => run.kill_at,
            Life::Ended { due, .. } => *due,
        };
        self.containers.iter().filter_map(due).min()
    }

    /// Whether all containers have ended for good.
    fn is_over(&self) -> bool {
        self.containers.iter().all(|container| matches!(container.life, Life::Ended { due: None, .. }))
    }

    /// The pod is being deleted, or its object is gone: an orderly stop, then the object goes if it is there.
    async fn leave(&mut self) {
        let began = Instant::now();
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
            self.cluster().network.give_back(address.into());
        }
    }

    fn publish(&self) {
        let host = self.cluster().store.get(Kind::Node, "", &self.kubelet.node);
        let host = host.and_then(|node| Some(node.list("/status/addresses").first()?.text("/address").to_owned())).unwrap_or_default();
        let containers = self.containers.iter().map(Container::seen).collect();
        let seen = PodSeen { address: self.address, host, since: &self.since, containers };
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

impl Container {
    fn seen(&self) -> Seen {
        let (state, started, ready, comes_back) = match &self.life {
            Life::Waiting { reason, message, .. } => {
                let mut state = json!({ "waiting": { "reason": reason } });
                if !message.is_empty() {
                    state["waiting"]["message"] = message.as_str().into();
                }
                (state, false, false, true)
            }
            Life::Running(run) => (json!({ "running": { "startedAt": run.since } }), run.started, run.ready, true),
            Life::Ended { state, due, .. } => (state.clone(), false, false, due.is_some()),
        };
        Seen {
            name: self.spec.text("/name").to_owned(),
            image: self.spec.text("/image").to_owned(),
            state,
            last_state: self.last.clone(),
            id: self.id.clone(),
            restarts: self.restarts,
            started,
            ready,
            comes_back,
        }
    }
}

/// Kills all processes of a container, where reading all of `/proc` holds up nobody.
fn killing(process: &Arc<Process>) -> JoinHandle<()> {
    let process = process.clone();
    tokio::task::spawn_blocking(move || process.kill_all())
}

/// A wait as Kubernetes writes it: `10s`, `1m20s`, `5m0s`.
fn short(wait: Duration) -> String {
    let seconds = wait.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_written_as_kubernetes_writes_them() {
        assert_eq!(short(Duration::from_secs(10)), "10s");
        assert_eq!(short(Duration::from_secs(80)), "1m20s");
        assert_eq!(short(Duration::from_mins(5)), "5m0s");
    }
}
