//! The Kubernetes client, and what is read through it.
//!
//! Every call goes through [`Cluster::call`], which gives it a name and a deadline: a request to a frozen API server would otherwise wait for
//! ever. kube's own retries are off ([`connect`]): fifteen silent ones on 429 make an eviction that a budget blocks look like a hang.
//!
//! - [`Target`]: the workload under test, by name.
//! - [`snapshot`](Cluster::pod): pod, service and volume at one moment, as facts.
//! - [`open`]: a cluster from the user's kubeconfig.
//! - [`forward`]: a port of a pod.
//! - [`Heartbeat`]: the sign of life of a node.
//! - [`lease`]: one run at a time.
//! - [`preflight`]: what can be asked of it before anything is broken.
//! - [`warnings`]: what a reader should know of the target before anything is broken.
//! - [`watch`]: what changes, as it arrives; waiting is done on its [`View`], never by polling in a fault.

mod facts;
#[cfg(test)]
pub(crate) mod fake;
pub mod forward;
mod heartbeat;
pub mod lease;
mod open;
pub mod preflight;
pub mod warnings;
pub mod watch;

use std::{fmt, future::Future, time::Duration};

use k8s_openapi::api::core::v1::{Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service};
use kube::{
    Api, Client, Config,
    api::{ListParams, LogParams},
    client::UpgradeConnectionError,
    config::{KubeConfigOptions, Kubeconfig},
};

pub use self::{
    facts::pod_facts,
    heartbeat::Heartbeat,
    open::{OpenError, Opened, open, open_in},
    watch::View,
};
use crate::event::{Answer, PodFacts, ServiceFacts, VolumeFacts};

/// The longest that one call to the API server may take.
pub const CALL_DEADLINE: Duration = Duration::from_secs(15);

const FORBIDDEN: u16 = 403;

/// The label with which a namespace says whether it may be broken.
pub const CONSENT_LABEL: &str = "comeback.dev/chaos";
/// What the label says if it may.
pub const CONSENT: &str = "allowed";

/// The label of a volume of ours that tells what may be done to it.
pub const VOLUME_LABEL: &str = "comeback.dev/volume";
/// What it says of one that has a size of its own, on a disk that is nobody else's.
pub const OWN_SIZE: &str = "own-size";

/// What is under test: a workload, the service in front of it, the volume behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The namespace of all of it.
    pub namespace: String,
    /// The label selector of its pods.
    pub selector: String,
    /// The container that runs the database.
    pub container: String,
    /// The service that clients use.
    pub service: String,
}

/// A cluster, and the target in it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// What is under test.
    pub target: Target,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("target", &self.target).finish_non_exhaustive()
    }
}

/// A call to the cluster that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The configuration is of no use.
    #[error("cannot use the kubeconfig")]
    Config(#[source] Box<kube::config::KubeconfigError>),
    /// The API server could not be reached, or its answer not be understood.
    #[error("could not {what}")]
    Call {
        /// What was being done, to what.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server answered that it does not do it.
    #[error("could not {what}: {why}{}", if *.denied { " (hint: `comeback preflight` lists all rights that are missing)" } else { "" })]
    Refused {
        /// What was being done, to what.
        what: String,
        /// Why, as the API server says it.
        why: String,
        /// The HTTP status.
        code: u16,
        /// Whether it is because we may not.
        denied: bool,
    },
    /// The API server did not answer in time.
    #[error("could not {what}: the API server did not answer within {}", humantime::format_duration(*.deadline))]
    Deadline {
        /// What was being done, to what.
        what: String,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// Nothing that runs matches the target.
    #[error("no pod matches `{selector}` in namespace `{namespace}` that is not finished or being deleted")]
    NoPod {
        /// The label selector.
        selector: String,
        /// The namespace.
        namespace: String,
    },
    /// More than one does, and it is not for us to choose.
    #[error("{} pods match `{selector}` in namespace `{namespace}`: {}; the target must be one instance", .pods.len(), .pods.join(", "))]
    ManyPods {
        /// The label selector.
        selector: String,
        /// The namespace.
        namespace: String,
        /// Their names.
        pods: Vec<String>,
    },
    /// An object is there but lacks something.
    #[error("{what} has no {missing}")]
    Incomplete {
        /// Which object.
        what: String,
        /// What it lacks.
        missing: &'static str,
    },
}

impl ClusterError {
    /// The HTTP status that the API server answered with, if it did.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// A call that the API server did not do.
    pub(crate) fn of(what: String, source: kube::Error) -> Self {
        match source {
            kube::Error::Api(status) => {
                let why = if status.message.is_empty() { format!("{} ({})", status.reason, status.code) } else { status.message.clone() };
                // The same status is that of a quota, and of pod security.
                let denied = status.code == FORBIDDEN && why.contains(" is forbidden: User ");
                Self::Refused { what, why, code: status.code, denied }
            }
            // A port or a shell: the reason stays with the API server.
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) if code.as_u16() == FORBIDDEN => {
                Self::Refused { what, why: "it is forbidden".to_owned(), code: FORBIDDEN, denied: true }
            }
            other => Self::Call { what, source: Box::new(other) },
        }
    }
}

/// A client for this kubeconfig, without silent retries.
pub async fn connect(kubeconfig: Kubeconfig) -> Result<Client, ClusterError> {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|source| ClusterError::Config(Box::new(source)))?;
    config.default_retry = false;
    Client::try_from(config).map_err(|source| ClusterError::Call { what: "make a Kubernetes client".to_owned(), source: Box::new(source) })
}

impl Cluster {
    /// The target in this cluster.
    #[must_use]
    pub const fn new(client: Client, target: Target) -> Self {
        Self { client, target }
    }

    /// The client itself; calls through it need a deadline of their own.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The objects of this kind in the target's namespace.
    #[must_use]
    pub fn namespaced<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client(), &self.target.namespace)
    }

    /// The cluster's objects of this kind.
    #[must_use]
    pub fn all<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = ()>,
    {
        Api::all(self.client())
    }

    /// Makes one call under [`CALL_DEADLINE`]. `what` fits behind "could not".
    pub async fn call<T>(&self, what: impl Into<String>, call: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
        let what = what.into();
        match tokio::time::timeout(CALL_DEADLINE, call).await {
            Ok(result) => result.map_err(|source| ClusterError::of(what, source)),
            Err(_) => Err(ClusterError::Deadline { what, deadline: CALL_DEADLINE }),
        }
    }

    /// The version of Kubernetes.
    pub async fn version(&self) -> Result<String, ClusterError> {
        Ok(self.call("read the version of Kubernetes", self.client.apiserver_version()).await?.git_version)
    }

    /// The pods of the target, whatever their state.
    pub async fn pods(&self) -> Result<Vec<Pod>, ClusterError> {
        let Target { namespace, selector, .. } = &self.target;
        let what = format!("list the pods with `{selector}` in namespace `{namespace}`");
        Ok(self.call(what, self.namespaced::<Pod>().list(&ListParams::default().labels(selector))).await?.items)
    }

    /// The one pod of the target that runs, or is to run: finished ones and those being deleted never match.
    pub async fn pod(&self) -> Result<Pod, ClusterError> {
        let Target { namespace, selector, .. } = &self.target;
        let mut pods = self.pods().await?;
        pods.retain(|pod| {
            let facts = pod_facts(pod, &self.target.container);
            !facts.terminating && !["Succeeded", "Failed"].contains(&facts.phase.as_str())
        });
        match pods.len() {
            1 => Ok(pods.remove(0)),
            0 => Err(ClusterError::NoPod { selector: selector.clone(), namespace: namespace.clone() }),
            _ => {
                let pods = pods.into_iter().map(|pod| pod.metadata.name.unwrap_or_default()).collect();
                Err(ClusterError::ManyPods { selector: selector.clone(), namespace: namespace.clone(), pods })
            }
        }
    }

    /// The facts of that pod.
    pub async fn pod_facts(&self) -> Result<PodFacts, ClusterError> {
        Ok(pod_facts(&self.pod().await?, &self.target.container))
    }

    /// The service that clients use.
    pub async fn service(&self) -> Result<ServiceFacts, ClusterError> {
        let Target { namespace, service: name, .. } = &self.target;
        let what = format!("service `{name}` in namespace `{namespace}`");
        let service = self.call(format!("read {what}"), self.namespaced::<Service>().get(name)).await?;
        let spec = service.spec.unwrap_or_default();
        let cluster_ip = spec
            .cluster_ip
            .filter(|ip| !ip.is_empty() && ip != "None")
            .ok_or(ClusterError::Incomplete { what: what.clone(), missing: "address" })?;
        let port = spec
            .ports
            .and_then(|ports| ports.first().map(|port| port.port))
            .and_then(|port| u16::try_from(port).ok())
            .ok_or(ClusterError::Incomplete { what, missing: "port" })?;
        Ok(ServiceFacts { uid: service.metadata.uid.unwrap_or_default(), cluster_ip, port })
    }

    /// The volume that this pod mounts through a claim.
    pub async fn volume(&self, pod: &Pod) -> Result<VolumeFacts, ClusterError> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let claim_name = pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten())
            .find_map(|volume| volume.persistent_volume_claim.as_ref())
            .map(|source| source.claim_name.clone())
            .ok_or_else(|| ClusterError::Incomplete { what: format!("pod `{name}`"), missing: "volume claim: its data goes with it" })?;
        let claim =
            self.call(format!("read volume claim `{claim_name}`"), self.namespaced::<PersistentVolumeClaim>().get(&claim_name)).await?;
        let volume_name = claim
            .spec
            .and_then(|spec| spec.volume_name)
            .ok_or_else(|| ClusterError::Incomplete { what: format!("volume claim `{claim_name}`"), missing: "volume yet" })?;
        let volume = self.call(format!("read volume `{volume_name}`"), self.all::<PersistentVolume>().get(&volume_name)).await?;
        Ok(VolumeFacts {
            claim: claim_name,
            claim_uid: claim.metadata.uid.unwrap_or_default(),
            volume: volume_name,
            volume_uid: volume.metadata.uid.unwrap_or_default(),
        })
    }

    /// Pod, service and volume at one moment; what the cluster does not tell is [`Answer::Unavailable`], with the reason.
    pub async fn look(&self) -> (Answer<PodFacts>, Answer<ServiceFacts>, Answer<VolumeFacts>) {
        let pod = self.pod().await;
        let volume = match &pod {
            Ok(pod) => answer(self.volume(pod).await),
            Err(error) => Answer::Unavailable(chain(error)),
        };
        let pod = answer(pod.map(|pod| pod_facts(&pod, &self.target.container)));
        (pod, answer(self.service().await), volume)
    }

    /// A node.
    pub async fn node(&self, name: &str) -> Result<Node, ClusterError> {
        self.call(format!("read node `{name}`"), self.all::<Node>().get(name)).await
    }

    /// Whether the target's namespace says that it may be broken.
    pub async fn consents(&self) -> Result<bool, ClusterError> {
        let name = &self.target.namespace;
        let namespace = self.call(format!("read namespace `{name}`"), self.all::<Namespace>().get(name)).await?;
        Ok(namespace.metadata.labels.iter().flatten().any(|(key, value)| key == CONSENT_LABEL && value == CONSENT))
    }

    /// Why the target's pod is not up, for the reader of an error: how its container ended, the last line of its log, the latest warning.
    pub async fn why_not_up(&self) -> String {
        let mut reasons = Vec::new();
        if let Ok(pod) = self.pod().await {
            let name = pod.metadata.name.clone().unwrap_or_default();
            let facts = pod_facts(&pod, &self.target.container);
            reasons.push(format!("pod `{name}` is {}", facts.phase));
            if let Some(end) = facts.last_end {
                reasons.push(format!("its container ended: {end}"));
            }
            let params = LogParams { container: Some(self.target.container.clone()), tail_lines: Some(1), ..LogParams::default() };
            if let Ok(log) = self.call("read the log", self.namespaced::<Pod>().logs(&name, &params)).await
                && let Some(line) = log.lines().last()
            {
                reasons.push(format!("the last line of its log: {line}"));
            }
        }
        reasons.extend(self.last_warning().await.map(|warning| format!("the last warning: {warning}")));
        if reasons.is_empty() { "the cluster tells nothing of it".to_owned() } else { reasons.join("; ") }
    }

    /// The latest warning that the cluster has about the target's namespace.
    async fn last_warning(&self) -> Option<String> {
        let what = "list the events";
        let events = self.call(what, self.namespaced::<Event>().list(&ListParams::default())).await.ok()?;
        latest_warning(events.items)
    }
}

/// The warning that was seen last: the API server lists events by their names.
fn latest_warning(events: Vec<Event>) -> Option<String> {
    let seen = |event: &Event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref().map(|time| time.0));
        let old = event.last_timestamp.as_ref().map(|time| time.0);
        let made = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
        series.max(old).max(event.event_time.as_ref().map(|time| time.0)).or(made)
    };
    let last = events.into_iter().filter(|event| event.type_.as_deref() == Some("Warning")).max_by_key(seen)?;
    let object = format!("{} `{}`", last.involved_object.kind.unwrap_or_default(), last.involved_object.name.unwrap_or_default());
    Some(format!("{object}: {}: {}", last.reason.unwrap_or_default(), last.message.unwrap_or_default()))
}

fn answer<T>(result: Result<T, ClusterError>) -> Answer<T> {
    result.map_or_else(|error| Answer::Unavailable(chain(&error)), Answer::Known)
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, routing::get};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_we_may_not_do_is_told_with_where_the_rights_are_listed() {
        let refused = |message: &str| {
            let status = json!({"status": "Failure", "message": message, "reason": "Forbidden", "code": 403});
            let status = serde_json::from_value(status).unwrap();
            ClusterError::of("cordon node `w`".into(), kube::Error::Api(Box::new(status)))
        };
        let denied = refused("nodes \"w\" is forbidden: User \"u\" cannot patch resource \"nodes\" in API group \"\" at the cluster scope");
        assert!(denied.to_string().contains("cannot patch resource") && denied.to_string().contains("comeback preflight"), "{denied}");
        assert_eq!(denied.status(), Some(403));
        let quota = refused("pods \"p\" is forbidden: exceeded quota: q");
        assert!(quota.to_string().ends_with("exceeded quota: q"), "{quota}");
    }

    #[test]
    fn the_latest_warning_is_the_one_that_was_seen_last() {
        let event = |kind: &str, reason: &str, times: Value| {
            let mut event = json!({
                "metadata": {"name": reason}, "type": kind, "reason": reason, "message": "m",
                "involvedObject": {"kind": "Pod", "name": "mssql-0"},
            });
            event.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
            serde_json::from_value::<Event>(event).unwrap()
        };
        let events = vec![
            event("Warning", "Repeated", json!({"firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:09:00Z"})),
            event("Warning", "New", json!({"eventTime": "2026-01-01T00:05:00.000000Z"})),
            event("Normal", "Fine", json!({"lastTimestamp": "2026-01-01T00:10:00Z"})),
            event("Warning", "Old", json!({"lastTimestamp": "2026-01-01T00:01:00Z"})),
        ];
        assert_eq!(latest_warning(events).as_deref(), Some("Pod `mssql-0`: Repeated: m"));
        assert_eq!(latest_warning(Vec::new()), None);
    }

    #[tokio::test]
    async fn a_namespace_may_be_broken_only_if_it_says_so() {
        for (labels, expected) in [(json!({}), false), (json!({CONSENT_LABEL: "no"}), false), (json!({CONSENT_LABEL: "allowed"}), true)] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "db", "labels": labels}});
            let router = Router::new().route("/api/v1/namespaces/db", get(move || async move { Json(namespace) }));
            assert_eq!(fake::cluster(router).await.consents().await.unwrap(), expected);
        }
    }
}
