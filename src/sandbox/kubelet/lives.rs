//! The lives of the containers of a pod: started, probed, ended, started again.
//!
//! A container that ended starts again after its [back-off](super::back_off), if the pod's restart policy says so. What it was becomes `lastState`, and whoever
//! watches sees each end before the next life.

use std::{sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    super::{
        clock::Speed,
        containers::Contained,
        events::Tone,
        object::{self, Look},
        process::{Exit, Process},
    },
    DIES_WITHIN,
    back_off::BackOff,
    container::{self, Setting, Unmade},
    probe::{self, Finding, Probing, Report},
    status::Seen,
    worker::{RELIST, TRY_AGAIN, Worker, killing},
};

/// The exit code of a container whose command could not be run.
const CANNOT_START: i64 = 128;
/// The exit code that a container runtime reports of a container that was gone when it looked, with the reason `Unknown`.
const UNKNOWN_EXIT: i64 = 255;

/// One container of a pod, through all its lives.
pub(super) struct Container {
    pub(super) spec: Value,
    pub(super) life: Life,
    /// `lastState`.
    pub(super) last: Value,
    pub(super) id: String,
    pub(super) restarts: i64,
    /// Whether there was a life before the next one.
    pub(super) has_lived: bool,
    pub(super) back_off: BackOff,
}

/// Where a container is.
pub(super) enum Life {
    /// Not running, for a reason, until `due`.
    Waiting { reason: &'static str, message: String, due: Instant },
    /// Running.
    Running(Run),
    /// Ended; `due` is when it starts again, if it does.
    Ended { state: Value, ended: Instant, due: Option<Instant> },
}

/// A life that goes on.
pub(super) struct Run {
    pub(super) process: Arc<Process>,
    pub(super) since: String,
    pub(super) started: bool,
    pub(super) ready: bool,
    /// When SIGKILL follows the SIGTERM that was sent.
    pub(super) kill_at: Option<Instant>,
    /// Whether it was told that a killed process does not die.
    pub(super) told_stuck: bool,
    pub(super) probes: JoinHandle<()>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.probes.abort();
    }
}

/// Whether a container that ended with that code is to be started again.
fn comes_back(pod: &Value, code: i64) -> bool {
    match pod.text("/spec/restartPolicy") {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

impl Container {
    /// A container that is to be started for the first time, at once.
    pub(super) fn new(spec: &Value, speed: Speed) -> Self {
        Self {
            spec: spec.clone(),
            life: Life::Waiting { reason: "ContainerCreating", message: String::new(), due: Instant::now() },
            last: json!({}),
            id: String::new(),
            restarts: 0,
            has_lived: false,
            back_off: BackOff::new(speed),
        }
    }

    /// A container as a kubelet finds it that has just started, by what an earlier run of it wrote: whatever ran is gone, and nobody knows how it ended. It
    /// starts again at once, because a kubelet that starts remembers no back-off.
    pub(super) fn recovered(spec: &Value, pod: &Value, speed: Speed) -> Self {
        let new = Self::new(spec, speed);
        let statuses = pod.list("/status/containerStatuses");
        let Some(status) = statuses.iter().find(|status| status.text("/name") == spec.text("/name")) else { return new };
        let state = if let Some(running) = status.pointer("/state/running") {
            json!({ "terminated": {
                "exitCode": UNKNOWN_EXIT, "reason": "Unknown", "startedAt": running["startedAt"], "finishedAt": object::now(),
                "containerID": status["containerID"],
            } })
        } else if status.has("/state/terminated") {
            json!({ "terminated": status["state"]["terminated"] })
        } else if status.has("/lastState/terminated") {
            json!({ "terminated": status["lastState"]["terminated"] })
        } else {
            return new;
        };
        let code = state.int("/terminated/exitCode").unwrap_or_default();
        let now = Instant::now();
        Self {
            life: Life::Ended { due: comes_back(pod, code).then_some(now), state, ended: now },
            last: status["lastState"].clone(),
            id: status.text("/containerID").to_owned(),
            restarts: status.int("/restartCount").unwrap_or_default(),
            has_lived: true,
            ..new
        }
    }

    /// What is told of it.
    pub(super) fn seen(&self) -> Seen {
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

impl Worker {
    /// Starts the containers whose time has come, and tells of those that wait for theirs.
    pub(super) async fn start_what_is_due(&mut self) {
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
        self.tell_of(
            n,
            Tone::Normal,
            "Pulled",
            &format!("Container image \"{image}\" already present on machine and can be accessed by the pod"),
        );
        self.tell_of(n, Tone::Normal, "Created", "Container created");
        let process = match started {
            Ok(process) => process,
            Err(error) => return self.fail_to_start(n, life, ended, &error.to_string()),
        };
        let id = format!("sandbox://{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        cluster.containers.add(Contained {
            key: self.key.clone(),
            pod: pod.clone(),
            spec: self.containers[n].spec.clone(),
            node: self.kubelet.node.clone(),
            address,
            mounts: mounts.clone(),
            process: process.clone(),
            is_container: true,
        });
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
        self.has_started = true;
        self.tell_of(n, Tone::Normal, "Started", "Container started");
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
        let comes_back = comes_back(&self.pod, CANNOT_START);
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
        self.has_started = true;
    }

    /// Looks which containers have ended since the last look.
    pub(super) fn relist(&mut self) {
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
    pub(super) fn tell_stuck(&mut self, n: usize) {
        let Life::Running(run) = &mut self.containers[n].life else { return };
        if !std::mem::replace(&mut run.told_stuck, true) {
            let name = self.containers[n].spec.text("/name");
            let message =
                format!("error killing pod: the processes of container {name} were killed {DIES_WITHIN:?} ago and are still there");
            self.tell_of(n, Tone::Warning, "FailedKillPod", &message);
        }
    }

    /// Takes note of an end.
    pub(super) fn end(&mut self, n: usize, exit: &Exit) {
        let comes_back = comes_back(&self.pod, exit.code.into());
        let container = &mut self.containers[n];
        let Life::Running(run) = &container.life else { return };
        self.kubelet.cluster.containers.remove(&run.process);
        let mut state = json!({
            "exitCode": exit.code, "reason": match exit.code {
                _ if run.process.is_out_of_memory() => "OOMKilled",
                0 => "Completed",
                _ => "Error",
            },
            "startedAt": run.since, "finishedAt": object::stamp(exit.at), "containerID": container.id,
        });
        if let Some(signal) = exit.signal {
            state["signal"] = signal.into();
        }
        let ended = Instant::from_std(exit.instant);
        let due = comes_back.then(|| container.back_off.due(ended));
        container.life = Life::Ended { state: json!({ "terminated": state }), ended, due };
    }

    /// Takes note of what a probe found.
    pub(super) fn take(&mut self, report: &Report) {
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

    /// Kills the containers that had their time to stop.
    pub(super) fn kill_what_is_overdue(&mut self) {
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

    /// When something is to be done next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = |container: &Container| match &container.life {
            Life::Waiting { due, .. } => Some(*due),
            Life::Running(run) => run.kill_at,
            Life::Ended { due, .. } => *due,
        };
        self.containers.iter().filter_map(due).min()
    }

    /// Whether all containers have ended for good.
    pub(super) fn is_over(&self) -> bool {
        self.containers.iter().all(|container| matches!(container.life, Life::Ended { due: None, .. }))
    }
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

    fn recovered(status: &Value) -> Container {
        let pod = json!({ "spec": { "restartPolicy": "Always" }, "status": { "containerStatuses": [status] } });
        Container::recovered(&json!({ "name": "c" }), &pod, Speed::new(10))
    }

    #[test]
    fn what_ran_when_power_was_cut_has_ended_nobody_knows_how_and_is_started_anew() {
        let found = recovered(&json!({
            "name": "c", "restartCount": 2, "containerID": "sandbox://x", "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } },
            "lastState": { "terminated": { "exitCode": 1 } },
        }));
        let Life::Ended { state, due, .. } = &found.life else { panic!("it has ended") };
        assert!(due.is_some());
        assert_eq!((state.int("/terminated/exitCode"), state.text("/terminated/reason")), (Some(255), "Unknown"));
        assert_eq!((state.text("/terminated/startedAt"), state.text("/terminated/containerID")), ("2026-01-01T00:00:00Z", "sandbox://x"));
        assert_eq!((found.restarts, found.has_lived, found.last.int("/terminated/exitCode")), (2, true, Some(1)));
    }

    #[test]
    fn what_had_not_run_yet_begins_and_what_had_ended_keeps_its_end() {
        let waiting = recovered(
            &json!({ "name": "c", "restartCount": 0, "state": { "waiting": { "reason": "ContainerCreating" } }, "lastState": {} }),
        );
        assert!(matches!(waiting.life, Life::Waiting { .. }) && !waiting.has_lived);
        let backing_off = recovered(&json!({
            "name": "c", "restartCount": 4, "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": { "terminated": { "exitCode": 3 } },
        }));
        let Life::Ended { state, due: Some(_), .. } = &backing_off.life else { panic!("it is due at once") };
        assert_eq!((state.int("/terminated/exitCode"), backing_off.restarts), (Some(3), 4));
    }
}
