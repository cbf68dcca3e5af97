//! The status of a pod, from the states of its containers.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::super::object::{self, Look, set, set_condition};

/// Where a container is in its life, as its status has it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Its name.
    pub(super) name: String,
    /// Its image.
    pub(super) image: String,
    /// `state`.
    pub(super) state: Value,
    /// `lastState`.
    pub(super) last_state: Value,
    /// `containerID`; empty before the first start.
    pub(super) id: String,
    /// How often it was started again.
    pub(super) restarts: i64,
    /// Whether its startup probe has succeeded.
    pub(super) started: bool,
    /// Whether it may take traffic.
    pub(super) ready: bool,
    /// Whether it will be started again if it has ended.
    pub(super) comes_back: bool,
}

/// What a pod's containers share: its address, above all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// There is none yet.
    Missing,
    /// It is there.
    Ready,
    /// It was there.
    Gone,
}

/// The conditions that a kubelet writes, and the scheduler's, in the order of the real one.
const CONDITIONS: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// What a kubelet knows of a pod.
#[derive(Debug)]
pub(super) struct PodSeen<'a> {
    /// What its containers share.
    pub(super) frame: Frame,
    /// The pod's address, once it has one that is told: with the first container.
    pub(super) address: Option<Ipv4Addr>,
    /// The node's address.
    pub(super) host: String,
    /// When the kubelet took the pod on.
    pub(super) since: &'a str,
    /// Its containers.
    pub(super) containers: Vec<Seen>,
}

impl PodSeen<'_> {
    /// The phase that the containers add up to.
    pub(super) fn phase(&self) -> &'static str {
        let ended = |seen: &Seen| seen.state.has("/terminated");
        let failed = |seen: &Seen| seen.state.int("/terminated/exitCode") != Some(0);
        if self.containers.iter().all(|seen| ended(seen) && !seen.comes_back) {
            return if self.containers.iter().any(failed) { "Failed" } else { "Succeeded" };
        }
        // A container that ended and waits to be started again has run; one that never did keeps the pod pending.
        let never_ran = |seen: &Seen| seen.state.has("/waiting") && !seen.last_state.has("/terminated");
        if self.containers.iter().any(never_ran) { "Pending" } else { "Running" }
    }

    /// Writes it into the pod.
    pub(super) fn write(&self, pod: &mut Value) {
        let phase = self.phase();
        set(pod, "/status/phase", phase);
        set(pod, "/status/startTime", self.since);
        set(pod, "/status/hostIP", self.host.as_str());
        set(pod, "/status/hostIPs", json!([{ "ip": self.host }]));
        if let Some(address) = self.address {
            set(pod, "/status/podIP", address.to_string());
            set(pod, "/status/podIPs", json!([{ "ip": address.to_string() }]));
        } else {
            // What it had before power was cut is nobody's now.
            object::remove(pod, "/status/podIP");
            object::remove(pod, "/status/podIPs");
        }
        let statuses: Vec<_> = self.containers.iter().map(Seen::status).collect();
        set(pod, "/status/containerStatuses", statuses);

        let over = matches!(phase, "Succeeded" | "Failed");
        let unready: Vec<_> = self.containers.iter().filter(|seen| !seen.ready).map(|seen| seen.name.as_str()).collect();
        let (reason, message) = match phase {
            "Succeeded" => ("PodCompleted", String::new()),
            "Failed" => ("PodFailed", String::new()),
            _ if unready.is_empty() => ("", String::new()),
            _ => ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))),
        };
        let ready = unready.is_empty() && !over;
        let (reason_of_frame, message_of_frame) = match self.frame {
            Frame::Missing if self.containers.iter().all(|seen| seen.id.is_empty()) => ("PodSandboxNotReady", "no pod sandbox exists"),
            Frame::Ready if !over => ("", ""),
            Frame::Missing | Frame::Ready | Frame::Gone => ("PodSandboxNotReady", "pod sandbox is not ready"),
        };
        set_condition(pod, "PodReadyToStartContainers", reason_of_frame.is_empty(), reason_of_frame, message_of_frame);
        set_condition(pod, "Initialized", true, if phase == "Succeeded" { reason } else { "" }, "");
        set_condition(pod, "Ready", ready, reason, &message);
        set_condition(pod, "ContainersReady", ready, reason, &message);
        if object::condition(pod, "PodScheduled").is_none() {
            // A pod that was given its node by whoever made it never saw the scheduler.
            set_condition(pod, "PodScheduled", true, "", "");
        }
        // All of it is about the pod as it is now.
        let generation = pod.int("/metadata/generation").unwrap_or(1);
        set(pod, "/status/observedGeneration", generation);
        let conditions = object::list_mut(pod, "/status/conditions");
        let rank = |condition: &Value| CONDITIONS.iter().position(|kind| *kind == condition.text("/type"));
        for condition in conditions.iter_mut().filter(|condition| rank(condition).is_some()) {
            set(condition, "/observedGeneration", generation);
        }
        conditions.sort_by_key(|condition| rank(condition).unwrap_or(CONDITIONS.len()));
    }
}

impl Seen {
    fn status(&self) -> Value {
        let mut status = json!({
            "name": self.name, "image": self.image, "imageID": "", "state": self.state, "lastState": self.last_state,
            "restartCount": self.restarts, "ready": self.ready, "started": self.started,
        });
        if !self.id.is_empty() {
            status["imageID"] = format!("sandbox://{}", self.image).into();
            status["containerID"] = self.id.as_str().into();
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn seen(state: Value, last: Value, comes_back: bool) -> Seen {
        let ready = state.has("/running");
        Seen {
            name: "c".into(),
            image: "comeback".into(),
            state,
            last_state: last,
            id: String::new(),
            restarts: 0,
            started: ready,
            ready,
            comes_back,
        }
    }

    fn running() -> Seen {
        seen(json!({ "running": {} }), json!({}), true)
    }

    fn ended(code: i64, comes_back: bool) -> Seen {
        seen(json!({ "terminated": { "exitCode": code } }), json!({}), comes_back)
    }

    fn creating() -> Seen {
        seen(json!({ "waiting": { "reason": "ContainerCreating" } }), json!({}), true)
    }

    fn backing_off() -> Seen {
        seen(json!({ "waiting": { "reason": "CrashLoopBackOff" } }), json!({ "terminated": { "exitCode": 1 } }), true)
    }

    #[rstest]
    #[case::creating(vec![creating()], "Pending")]
    #[case::running(vec![running()], "Running")]
    #[case::one_still_creating(vec![running(), creating()], "Pending")]
    #[case::ended_and_comes_back(vec![ended(1, true)], "Running")]
    #[case::backing_off(vec![backing_off()], "Running")]
    #[case::done(vec![ended(0, false), ended(0, false)], "Succeeded")]
    #[case::failed(vec![ended(0, false), ended(1, false)], "Failed")]
    fn the_phase_follows_from_the_containers(#[case] containers: Vec<Seen>, #[case] phase: &str) {
        let pod = PodSeen { frame: Frame::Ready, address: None, host: String::new(), since: "", containers };
        assert_eq!(pod.phase(), phase);
    }

    #[test]
    fn what_the_containers_share_is_missing_then_there_then_gone() {
        let of = |frame, containers: Vec<Seen>| {
            let mut pod =
                json!({ "metadata": { "generation": 3 }, "status": { "conditions": [{ "type": "PodScheduled", "status": "True" }] } });
            PodSeen { frame, address: None, host: String::new(), since: "", containers }.write(&mut pod);
            assert_eq!((pod.int("/status/observedGeneration"), pod.text("/status/conditions/4/type")), (Some(3), "PodScheduled"));
            let first = &pod["status"]["conditions"][0];
            assert_eq!(first.text("/type"), "PodReadyToStartContainers");
            assert_eq!(first.int("/observedGeneration"), Some(3));
            (first.text("/status").to_owned(), first.text("/message").to_owned())
        };
        let lived = || Seen { id: "sandbox://x".into(), ..ended(255, true) };
        assert_eq!(of(Frame::Missing, vec![creating()]), ("False".to_owned(), "no pod sandbox exists".to_owned()));
        assert_eq!(of(Frame::Missing, vec![lived()]), ("False".to_owned(), "pod sandbox is not ready".to_owned()), "power was cut");
        assert_eq!(of(Frame::Ready, vec![creating()]), ("True".to_owned(), String::new()));
        assert_eq!(of(Frame::Gone, vec![lived()]), ("False".to_owned(), "pod sandbox is not ready".to_owned()));
    }

    #[test]
    fn a_pod_is_ready_when_all_its_containers_are() {
        let mut pod = json!({});
        let write = |containers, pod: &mut Value| {
            PodSeen { frame: Frame::Ready, address: None, host: String::new(), since: "", containers }.write(pod);
        };
        write(vec![running(), creating()], &mut pod);
        assert!(!object::condition_holds(&pod, "Ready"));
        assert_eq!(object::condition(&pod, "Ready").unwrap().text("/message"), "containers with unready status: [c]");
        write(vec![running(), running()], &mut pod);
        assert!(object::condition_holds(&pod, "Ready"));
        assert!(object::condition_holds(&pod, "ContainersReady"));
        write(vec![ended(0, false)], &mut pod);
        assert!(!object::condition_holds(&pod, "Ready"));
    }
}
