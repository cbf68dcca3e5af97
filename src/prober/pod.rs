//! The prober's pod.
//!
//! A bare pod, because nobody may replace it: a new one would be another prober. It never shares a node with the target, keeps away from the
//! nodes that the trial's faults name, and stays when its node is lost for a while (it tolerates that without limit, and its journal is on an
//! `emptyDir`, which lives as long as the pod): so it comes back with its node and tells what it had seen. `OnFailure` starts it again when
//! it is killed, and leaves it ended when it ends by itself.
//!
//! It may do nothing in the cluster (no token), nothing on its node (no privilege, no writable file system but its journal), and the password
//! of the database comes from a secret. What is put up is removed, and seen to be gone; whatever a killed runner left behind carries the label
//! [`COMPONENT`] and goes with [`remove_all`].
//!
//! # Caveats
//! The anti-affinity holds both ways: while a prober is there, the target is not scheduled to its node. A cluster needs a node for it beside those
//! that a scenario breaks and the one that the target moves to.

use std::{io, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    api::{Api, DeleteParams, ListParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{Dial, Likeness, Note, Prober, journal, server::PORT};
use crate::{
    cluster::{Cluster, ClusterError, chain, forward::Forwarded},
    event::{Clock, PodFacts},
};

/// What says that a pod is a prober, for a selector.
pub const COMPONENT: &str = "app.kubernetes.io/component=prober";
/// How long the pod may take to run: its image is on the node, or is pulled.
pub const START_DEADLINE: Duration = Duration::from_mins(2);
/// How long it may take to be gone.
pub const REMOVE_DEADLINE: Duration = Duration::from_mins(1);
/// How long it may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked at while it is waited for.
const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// Where its journal is.
const DATA: &str = "/var/lib/comeback";
/// The user that it runs as.
const USER: i64 = 10_001;
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// What a prober's pod is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The id of the run.
    pub run: String,
    /// The image of this program.
    pub image: String,
    /// How much the program in the image must be like the one that runs here.
    pub likeness: Likeness,
    /// The secret with the password of the database, as `MSSQL_SA_PASSWORD`.
    pub secret: String,
    /// The pods that it must not share a node with, as a label selector.
    pub target: String,
    /// The nodes that it must not be on.
    pub avoid: Vec<String>,
}

/// The prober's pod could not be put up or removed.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// A call failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// It did not come to run.
    #[error("prober pod `{pod}` did not run within {}: {why}", humantime::format_duration(START_DEADLINE))]
    NotRunning {
        /// Its name.
        pod: String,
        /// What the cluster says of it.
        why: String,
    },
    /// It did not go.
    #[error(
        "prober pod `{pod}` is still there {} after its deletion (hint: `kubectl delete pod {pod} -n {namespace}`)",
        humantime::format_duration(REMOVE_DEADLINE)
    )]
    NotGone {
        /// Its name.
        pod: String,
        /// Its namespace.
        namespace: String,
    },
    /// The selector is of a form that a pod's affinity cannot have.
    #[error(
        "cannot keep the prober away from the pods that match `{selector}`: `{part}` is neither `key=value`, `key!=value`, `key` nor `!key`"
    )]
    Selector {
        /// All of it.
        selector: String,
        /// The part in question.
        part: String,
    },
}

/// A prober's pod that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProberPod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Where it runs.
    pub node: String,
    /// The session that it works for; a pod has one.
    pub session: String,
    settings: Settings,
}

impl ProberPod {
    /// Puts one up and waits until it runs. What cannot run is removed again.
    ///
    /// # Errors
    /// If the cluster refuses it, or it does not come to run in time: the message says what the cluster says of it.
    pub async fn put_up(cluster: &Cluster, settings: &Settings) -> Result<Self, PodError> {
        let session = format!("{}-{}", settings.run, &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let name = format!("comeback-prober-{session}");
        let manifest = manifest(&name, &session, settings)?;
        let pod = serde_json::from_value(manifest).expect("the manifest is a pod");
        let pods: Api<Pod> = cluster.namespaced();
        let created = cluster.call(format!("create prober pod `{name}`"), pods.create(&PostParams::default(), &pod)).await?;
        let uid = created.uid().unwrap_or_default();
        match until_it_runs(cluster, &name).await {
            Ok(node) => Ok(Self { name, uid, node, session, settings: settings.clone() }),
            Err(error) => {
                // The first error is the one to tell; what is left carries the label.
                let _ = remove(cluster, &name, Some(&uid)).await;
                Err(error)
            }
        }
    }

    /// The prober in it.
    #[must_use]
    pub fn connect(&self, cluster: &Cluster, clock: Clock, notes: mpsc::Sender<Note>) -> Prober {
        let dial = PodDial { cluster: cluster.clone(), pod: self.name.clone() };
        Prober::there(dial, &self.session, self.settings.likeness, clock, notes)
    }

    /// Whether it keeps away from the pods that this selector names.
    #[must_use]
    pub fn keeps_away_from(&self, target: &str) -> bool {
        self.settings.target == target
    }

    /// Whether it stands where it must not: on the node of the target's pod, or on one that a fault names.
    #[must_use]
    pub fn is_in_the_way(&self, target: &PodFacts, avoid: &[String]) -> bool {
        target.node.as_deref() == Some(self.node.as_str()) || avoid.contains(&self.node)
    }

    /// Puts up another one elsewhere and removes this one: for a target that came to its node, or another fault. It is another session.
    ///
    /// # Errors
    /// If the new one cannot be put up, or the old one not be removed.
    pub async fn moved(self, cluster: &Cluster, avoid: Vec<String>) -> Result<Self, PodError> {
        let settings = Settings { avoid, ..self.settings.clone() };
        self.remove(cluster).await?;
        Self::put_up(cluster, &settings).await
    }

    /// Removes it and waits until it is gone. It may be gone already.
    ///
    /// # Errors
    /// If the cluster refuses, or it stays.
    pub async fn remove(self, cluster: &Cluster) -> Result<(), PodError> {
        remove(cluster, &self.name, Some(&self.uid)).await
    }
}

/// Removes every prober of this run, or of all runs, in the target's namespace; returns their names.
///
/// # Errors
/// The first that could not be removed.
pub async fn remove_all(cluster: &Cluster, run: Option<&str>) -> Result<Vec<String>, PodError> {
    let selector = run.map_or_else(|| COMPONENT.to_owned(), |run| format!("{COMPONENT},comeback.dev/run={run}"));
    let pods: Api<Pod> = cluster.namespaced();
    let listed = cluster.call("list the prober pods", pods.list(&ListParams::default().labels(&selector))).await?;
    let mut removed = Vec::new();
    for pod in listed.items {
        let name = pod.name_any();
        remove(cluster, &name, pod.metadata.uid.as_deref()).await?;
        removed.push(name);
    }
    Ok(removed)
}

async fn remove(cluster: &Cluster, name: &str, uid: Option<&str>) -> Result<(), PodError> {
    let pods: Api<Pod> = cluster.namespaced();
    let params = DeleteParams {
        grace_period_seconds: Some(u32::try_from(GRACE.as_secs()).expect("it is short")),
        preconditions: uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    let end = Instant::now() + REMOVE_DEADLINE;
    let mut told = false;
    loop {
        if !told {
            match cluster.call(format!("delete prober pod `{name}`"), pods.delete(name, &params)).await {
                // Gone, or another object has its name.
                Err(error) if matches!(error.status(), Some(NOT_FOUND | CONFLICT)) => return Ok(()),
                result => told = passing(result, end)?.is_some(),
            }
        }
        let looked = cluster.call(format!("look whether prober pod `{name}` is gone"), pods.get_opt(name)).await;
        match passing(looked, end)? {
            Some(None) => return Ok(()),
            Some(Some(pod)) if pod.uid().as_deref() != uid => return Ok(()),
            Some(Some(_)) | None if Instant::now() > end => {
                return Err(PodError::NotGone { pod: name.to_owned(), namespace: cluster.target.namespace.clone() });
            }
            Some(Some(_)) | None => sleep(LOOK_PERIOD).await,
        }
    }
}

/// What a call returned; `None` if it failed in a way that may pass: the API server could not be reached, and there is time left.
fn passing<T>(result: Result<T, ClusterError>, end: Instant) -> Result<Option<T>, ClusterError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.status().is_none_or(|status| status >= 500) && Instant::now() < end => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until the pod runs, and returns its node.
async fn until_it_runs(cluster: &Cluster, name: &str) -> Result<String, PodError> {
    let pods: Api<Pod> = cluster.namespaced();
    let end = Instant::now() + START_DEADLINE;
    loop {
        let looked = cluster.call(format!("look at prober pod `{name}`"), pods.get(name)).await;
        let Some(pod) = passing(looked, end)? else {
            sleep(LOOK_PERIOD).await;
            continue;
        };
        let status = pod.status.clone().unwrap_or_default();
        let running = status.container_statuses.iter().flatten().any(|container| container.ready);
        if let (true, Some(node)) = (running, pod.spec.as_ref().and_then(|spec| spec.node_name.clone())) {
            return Ok(node);
        }
        if Instant::now() > end || matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
            return Err(PodError::NotRunning { pod: name.to_owned(), why: why_not_running(&pod) });
        }
        sleep(LOOK_PERIOD).await;
    }
}

/// What a pod's own status says.
fn why_not_running(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let mut reasons = vec![format!("it is {}", status.phase.as_deref().unwrap_or("unknown"))];
    for condition in status.conditions.iter().flatten().filter(|condition| condition.status != "True") {
        reasons.extend(condition.message.as_ref().map(|message| format!("{}: {message}", condition.type_)));
    }
    for state in status.container_statuses.iter().flatten().filter_map(|container| container.state.as_ref()) {
        if let Some(waiting) = &state.waiting {
            reasons.push(format!(
                "its container waits: {} {}",
                waiting.reason.as_deref().unwrap_or_default(),
                waiting.message.as_deref().unwrap_or_default()
            ));
        }
        if let Some(ended) = &state.terminated {
            reasons.push(format!("its container ended with exit code {}", ended.exit_code));
        }
    }
    reasons.join("; ")
}

/// The pod as an object.
fn manifest(name: &str, session: &str, settings: &Settings) -> Result<Value, PodError> {
    let labels = json!({
        "app.kubernetes.io/name": "comeback",
        "app.kubernetes.io/component": "prober",
        "app.kubernetes.io/managed-by": "comeback",
        "comeback.dev/run": settings.run,
    });
    let mut affinity = json!({
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchExpressions": expressions(&settings.target)?}},
            ],
        },
    });
    if !settings.avoid.is_empty() {
        affinity["nodeAffinity"] = json!({
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchFields": settings.avoid.iter().map(|node| json!({"key": "metadata.name", "operator": "NotIn", "values": [node]})).collect::<Vec<_>>()},
                ],
            },
        });
    }
    let stays = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute"});
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "restartPolicy": "OnFailure",
            "terminationGracePeriodSeconds": GRACE.as_secs(),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "affinity": affinity,
            // Without a limit in time: it waits for its node.
            "tolerations": [stays("node.kubernetes.io/not-ready"), stays("node.kubernetes.io/unreachable")],
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "prober",
                "image": settings.image,
                "imagePullPolicy": "IfNotPresent",
                "args": ["prober", "--session", session, "--data", DATA, "--listen", format!("127.0.0.1:{PORT}")],
                "env": [
                    {"name": "MSSQL_SA_PASSWORD", "valueFrom": {"secretKeyRef": {"name": settings.secret, "key": "MSSQL_SA_PASSWORD"}}},
                ],
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "journal", "mountPath": DATA}],
            }],
            // Twice what the prober allows itself: it says that it is full before the kubelet evicts it.
            "volumes": [{"name": "journal", "emptyDir": {"sizeLimit": (journal::DISK_BYTES * 2).to_string()}}],
        },
    }))
}

/// A label selector as the requirements of an affinity.
fn expressions(selector: &str) -> Result<Vec<Value>, PodError> {
    let parts = selector.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
            let of = |key: &str, operator: &str, values: &[&str]| {
                let (key, values): (&str, Vec<&str>) = (key.trim(), values.iter().map(|value| value.trim()).collect());
                let known = word(key) && values.iter().all(|value| word(value));
                known.then(|| {
                    let mut expression = json!({"key": key, "operator": operator});
                    if !values.is_empty() {
                        expression["values"] = json!(values);
                    }
                    expression
                })
            };
            let expression = if let Some((key, value)) = part.split_once("!=") {
                of(key, "NotIn", &[value])
            } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                of(key, "In", &[value])
            } else if let Some(key) = part.strip_prefix('!') {
                of(key, "DoesNotExist", &[])
            } else {
                of(part, "Exists", &[])
            };
            expression.ok_or_else(|| PodError::Selector { selector: selector.to_owned(), part: part.to_owned() })
        })
        .collect()
}

/// Opens connections into a prober's pod, through the API server and the node's kubelet.
#[derive(Debug)]
struct PodDial {
    cluster: Cluster,
    pod: String,
}

impl Dial for PodDial {
    type Stream = Forwarded;

    async fn dial(&self) -> io::Result<Forwarded> {
        self.cluster.forward(&self.pod, PORT).await.map_err(|error| io::Error::other(chain(&error)))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn settings() -> Settings {
        Settings {
            run: "run-1".into(),
            image: "comeback:0.1.0".into(),
            likeness: Likeness::Build,
            secret: "mssql".into(),
            target: "app=mssql".into(),
            avoid: vec!["worker-1".into(), "worker-2".into()],
        }
    }

    #[test]
    fn the_manifest_is_a_pod_that_kubernetes_knows() {
        let manifest = manifest("comeback-prober-s", "s", &settings()).unwrap();
        let pod: Pod = serde_json::from_value(manifest.clone()).unwrap();
        // Nothing was lost on the way: every key is one that Kubernetes knows.
        assert_eq!(serde_json::to_value(&pod).unwrap(), manifest);
        assert_eq!(pod.labels()["app.kubernetes.io/component"], "prober");
        assert_eq!(pod.labels()["comeback.dev/run"], "run-1");
    }

    #[test]
    fn it_may_do_nothing_but_probe() {
        let spec = manifest("p", "s", &settings()).unwrap()["spec"].clone();
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        let container = &spec["containers"][0];
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        // The password is in the secret alone, and nobody outside the pod reaches its port.
        assert_eq!(container["env"][0]["valueFrom"]["secretKeyRef"]["name"], "mssql");
        assert!(container["args"].to_string().contains("127.0.0.1:"));
        assert!(container["ports"].is_null());
    }

    #[test]
    fn it_keeps_away_from_the_target_and_from_what_is_broken_and_waits_for_its_own_node() {
        let spec = manifest("p", "s", &settings()).unwrap()["spec"].clone();
        let apart = &spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(apart["labelSelector"]["matchExpressions"], json!([{"key": "app", "operator": "In", "values": ["mssql"]}]));
        let nodes = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        assert_eq!(nodes.as_array().unwrap().len(), 1, "the terms are alternatives, so all nodes must be in one");
        assert_eq!(nodes[0]["matchFields"].as_array().unwrap().len(), 2);
        for toleration in spec["tolerations"].as_array().unwrap() {
            assert!(toleration["tolerationSeconds"].is_null());
        }
        let nowhere_else = manifest("p", "s", &Settings { avoid: Vec::new(), ..settings() }).unwrap();
        assert!(nowhere_else["spec"]["affinity"]["nodeAffinity"].is_null());
    }

    #[rstest]
    #[case::one("app=mssql", json!([{"key": "app", "operator": "In", "values": ["mssql"]}]))]
    #[case::two("a=b, c!=d", json!([{"key": "a", "operator": "In", "values": ["b"]}, {"key": "c", "operator": "NotIn", "values": ["d"]}]))]
    #[case::doubled("x.io/a==b", json!([{"key": "x.io/a", "operator": "In", "values": ["b"]}]))]
    #[case::there("a,!b", json!([{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "DoesNotExist"}]))]
    fn a_selector_becomes_an_affinity(#[case] selector: &str, #[case] expected: Value) {
        assert_eq!(json!(expressions(selector).unwrap()), expected);
    }

    #[rstest]
    #[case::a_set("app in (a")]
    #[case::no_value("app=")]
    #[case::no_key("=a")]
    fn a_selector_of_another_form_is_refused(#[case] selector: &str) {
        assert!(matches!(expressions(selector), Err(PodError::Selector { .. })));
    }

    #[test]
    fn it_is_in_the_way_on_the_node_of_the_target_or_of_a_fault() {
        let pod = ProberPod { name: "p".into(), uid: "u".into(), node: "worker-3".into(), session: "s".into(), settings: settings() };
        let target = |node: &str| PodFacts {
            name: "mssql".into(),
            uid: "t".into(),
            node: Some(node.into()),
            phase: "Running".into(),
            terminating: false,
            ready: true,
            container_id: None,
            restart_count: 0,
            running: true,
            last_end: None,
        };
        assert!(pod.is_in_the_way(&target("worker-3"), &[]));
        assert!(pod.is_in_the_way(&target("worker-1"), &["worker-3".into()]));
        assert!(!pod.is_in_the_way(&target("worker-1"), &["worker-2".into()]));
    }
}
