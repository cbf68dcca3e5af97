//! The node helper: a short-lived privileged pod that does one thing on a node, for clusters whose nodes nobody else can reach.
//!
//! It is our own image, pinned to the node past the scheduler, in the node's own process namespace; it enters the namespaces of the node's first process and
//! runs one of our [scripts](NodeScript) there. What it began ends by itself when its time is over, so the pod itself is gone at once: it is removed, and
//! seen to be gone, before anything else is done.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams, LogParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{PlatformError, node_shell::NodeScript};
use crate::cluster::{Cluster, ClusterError};

/// What says that a pod is a helper, for a selector.
pub const COMPONENT: &str = "node-helper";
/// How long it may take to start, do its work and end: its image is on the node, or is pulled.
const WITHIN: Duration = Duration::from_mins(2);
/// How long one may be there, whatever becomes of us.
const LIVES_AT_MOST: Duration = Duration::from_mins(10);
/// How long it may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_millis(250);
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// Runs a script on a node with these words, and returns what it printed.
pub(super) async fn run(cluster: &Cluster, image: &str, node: &str, script: NodeScript, words: &[&str]) -> Result<String, PlatformError> {
    on(cluster, image, node, script, words, async |name| log(cluster, &name).await).await
}

/// The same, of what has nothing to say: it is not asked for it, because the way to it leads through the node.
pub(super) async fn order(cluster: &Cluster, image: &str, node: &str, script: NodeScript, words: &[&str]) -> Result<(), PlatformError> {
    on(cluster, image, node, script, words, async |_| Ok(())).await
}

async fn on<T>(
    cluster: &Cluster,
    image: &str,
    node: &str,
    script: NodeScript,
    words: &[&str],
    tell: impl AsyncFnOnce(String) -> Result<T, ClusterError>,
) -> Result<T, PlatformError> {
    let name = format!("comeback-node-helper-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let pod: Pod = serde_json::from_value(manifest(&name, image, node, script, words)).expect("the manifest is a pod");
    let created = cluster
        .call(format!("create node helper `{name}` on node `{node}`"), cluster.namespaced::<Pod>().create(&PostParams::default(), &pod))
        .await?;
    let uid = created.metadata.uid.unwrap_or_default();
    let told = match until_it_ended(cluster, &name, node).await {
        Ok(()) => tell(name.clone()).await.map_err(PlatformError::from),
        Err(error) => Err(error),
    };
    let gone = remove(cluster, &name, &uid).await;
    let told = told?;
    gone?;
    Ok(told)
}

async fn log(cluster: &Cluster, name: &str) -> Result<String, ClusterError> {
    cluster.call(format!("read what node helper `{name}` said"), cluster.namespaced::<Pod>().logs(name, &LogParams::default())).await
}

/// Waits until it has done what it was sent for.
async fn until_it_ended(cluster: &Cluster, name: &str, node: &str) -> Result<(), PlatformError> {
    let end = Instant::now() + WITHIN;
    loop {
        let pod = cluster.call(format!("look at node helper `{name}`"), cluster.namespaced::<Pod>().get(name)).await?;
        let status = pod.status.unwrap_or_default();
        let ended = status.container_statuses.iter().flatten().find_map(|one| one.state.as_ref()?.terminated.clone());
        if let Some(ended) = ended {
            if ended.exit_code == 0 {
                return Ok(());
            }
            let log = log(cluster, name).await?;
            let said = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned();
            return Err(PlatformError::Helper { node: node.to_owned(), said });
        }
        if Instant::now() > end {
            let waiting = status.container_statuses.iter().flatten().find_map(|one| one.state.as_ref()?.waiting.clone());
            let why = waiting.and_then(|waiting| waiting.message.or(waiting.reason)).or(status.message);
            let why = why.unwrap_or_else(|| "the cluster does not say why".to_owned());
            return Err(PlatformError::Helper {
                node: node.to_owned(),
                said: format!("it had not ended after {}: {why}", humantime::format_duration(WITHIN)),
            });
        }
        sleep(PERIOD).await;
    }
}

/// Removes those that are there, whoever sent them.
pub async fn remove_all(cluster: &Cluster) -> Result<(), ClusterError> {
    let selector = format!("app.kubernetes.io/managed-by=comeback,app.kubernetes.io/component={COMPONENT}");
    let pods = cluster.namespaced::<Pod>();
    for pod in cluster.call("list the node helpers", pods.list(&ListParams::default().labels(&selector))).await?.items {
        remove(cluster, &pod.name_any(), &pod.metadata.uid.unwrap_or_default()).await?;
    }
    Ok(())
}

async fn remove(cluster: &Cluster, name: &str, uid: &str) -> Result<(), ClusterError> {
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    let what = format!("remove node helper `{name}`");
    match cluster.call(what.clone(), cluster.namespaced::<Pod>().delete(name, &params)).await {
        Err(error) if !matches!(error.status(), Some(NOT_FOUND | CONFLICT)) => return Err(error),
        _ => {}
    }
    let end = Instant::now() + GONE_WITHIN;
    loop {
        let there = cluster.call(what.clone(), cluster.namespaced::<Pod>().get_opt(name)).await?;
        if there.is_none_or(|pod| pod.metadata.uid.as_deref() != Some(uid)) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(ClusterError::Deadline { what, deadline: GONE_WITHIN });
        }
        sleep(PERIOD).await;
    }
}

fn manifest(name: &str, image: &str, node: &str, script: NodeScript, words: &[&str]) -> Value {
    // The kubelet puts the value of a variable in the place of `$(NAME)`: a process may be called anything.
    let words = words.iter().map(|word| word.replace('$', "$$"));
    let args: Vec<String> = ["on-node", script.name()].map(str::to_owned).into_iter().chain(words).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/name": "comeback",
            "app.kubernetes.io/component": COMPONENT,
            "app.kubernetes.io/managed-by": "comeback",
        }},
        "spec": {
            // Past the scheduler: to a node that is cordoned or tainted, too.
            "nodeName": node,
            "hostPID": true,
            "restartPolicy": "Never",
            // Also when nobody is left to remove it.
            "activeDeadlineSeconds": LIVES_AT_MOST.as_secs(),
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{
                "name": "helper",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "args": args,
                "securityContext": {"privileged": true, "runAsUser": 0},
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_pod_that_kubernetes_knows_and_goes_where_it_is_sent() {
        let manifest = manifest("h", "comeback:1", "worker-2", NodeScript::Signal, &["/proc", "$(HOME)", "list"]);
        let pod: Pod = serde_json::from_value(manifest.clone()).unwrap();
        assert_eq!(serde_json::to_value(&pod).unwrap(), manifest, "every key is one that Kubernetes knows");
        assert_eq!(manifest["spec"]["nodeName"], "worker-2");
        assert_eq!(manifest["spec"]["containers"][0]["args"], json!(["on-node", "signal", "/proc", "$$(HOME)", "list"]));
        assert_eq!(manifest["spec"]["containers"][0]["securityContext"]["privileged"], true);
    }
}
