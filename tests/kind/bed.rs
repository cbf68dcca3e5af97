//! A namespace with one pod that looks like a database: a shell, below it a watchdog, below that an engine.

use std::{
    env,
    fmt::Debug,
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use comeback::{
    cluster::{self, Cluster, Target, watch::Watches},
    event::PodFacts,
    fault::{Consent, EFFECT_DEADLINE, Journal, Scene},
    platform::Platform,
};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a pod may take to run, on a node that has its image.
pub(crate) const START: Duration = Duration::from_mins(1);
/// How long a lost node may take to be noticed, and its pod to be marked.
pub(crate) const NOTICE: Duration = Duration::from_mins(2);

/// How long a fault lasts that does, unless a test ends it.
pub(crate) const LASTING: Duration = Duration::from_mins(2);

/// A shell as the container's first process, and below it two processes as SQL Server has them; the engine is the largest.
const DATABASE: &str = "cp /bin/bash /tmp/sqlservr; \
    /tmp/sqlservr -c '/tmp/sqlservr -c \"printf -v held %30000000s; sleep 100000; true\" & wait $!; exit 1'; exit 1";

/// More than it needs, and soon taken.
const MEMORY: &str = "128Mi";

/// One test at a time: they break nodes.
static ONE: Mutex<()> = Mutex::new(());

/// Waits for whoever breaks nodes just now, and keeps the others away.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Deployment,
    StatefulSet,
}

pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) platform: Platform,
    pub(crate) watches: Watches,
    pub(crate) journal: Journal,
    pub(crate) stop: CancellationToken,
    pub(crate) consent: Consent,
    _folder: tempfile::TempDir,
}

impl Bed {
    pub(crate) fn scene(&self) -> Scene<'_> {
        Scene {
            cluster: &self.cluster,
            platform: &self.platform,
            watches: &self.watches,
            stop: &self.stop,
            consent: &self.consent,
            lasting: LASTING,
            patience: EFFECT_DEADLINE,
        }
    }

    /// Waits until the pod runs that is not this one.
    pub(crate) async fn running(&self, old: Option<&PodFacts>, within: Duration) -> PodFacts {
        let seen = self.watches.wait_until("a pod that runs", within, |view| {
            view.pods.values().find(|pod| pod.ready && pod.running && !pod.terminating && old.is_none_or(|old| old.uid != pod.uid)).cloned()
        });
        seen.await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until the container of this pod was started anew.
    pub(crate) async fn restarted(&self, old: &PodFacts) -> PodFacts {
        let seen = self.watches.wait_until("a container that was started anew", START, |view| {
            view.pods.get(&old.uid).filter(|pod| pod.restart_count > old.restart_count && pod.running).cloned()
        });
        seen.await.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Makes a bed, runs the test in it, and takes everything away again, whatever became of it.
pub(crate) fn in_bed(shape: Shape, test: impl AsyncFnOnce(&Bed)) {
    let _one = alone();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let bed = make(shape).await;
        let result = AssertUnwindSafe(test(&bed)).catch_unwind().await;
        let mut left = Vec::new();
        for entry in bed.journal.pending() {
            if let Err(error) = entry.undo.perform(&bed.cluster, &bed.platform).await {
                left.push(format!("{}: {error}", entry.undo));
            }
        }
        let name = &bed.cluster.target.namespace;
        let deleted = bed.cluster.call("delete the namespace", bed.cluster.all::<Namespace>().delete(name, &DeleteParams::default())).await;
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        assert!(left.is_empty(), "left in place: {left:?}");
        deleted.expect("the namespace can be deleted");
    });
}

async fn make(shape: Shape) -> Bed {
    let name = format!("comeback-test-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let target =
        Target { namespace: name.clone(), selector: "app=database".into(), container: "database".into(), service: "database".into() };
    let opened = cluster::open(None, target).await.expect("KUBECONFIG names a cluster");
    let cluster = opened.cluster;
    let platform = Platform::detect(&cluster, None).await.expect("the cluster answers");
    assert_eq!(platform.name(), "kind", "the current context must be a cluster that kind made");

    let labels = json!({"app.kubernetes.io/managed-by": "comeback-test"});
    create(&cluster, "", "v1", "Namespace", json!({"metadata": {"name": name, "labels": labels}})).await;
    let (group, kind, more) = match shape {
        Shape::Deployment => ("apps", "Deployment", json!({"strategy": {"type": "Recreate"}})),
        Shape::StatefulSet => ("apps", "StatefulSet", json!({"serviceName": "database"})),
    };
    let mut spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": "database"}}, "template": template(&cluster).await});
    spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    create(&cluster, group, "v1", kind, json!({"metadata": {"name": "database", "namespace": name}, "spec": spec})).await;

    let (sightings, mut seen) = mpsc::channel(64);
    tokio::spawn(async move { while seen.recv().await.is_some() {} });
    let watches = Watches::start(&cluster, sightings);
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::create(&folder.path().join("journal.ndjson")).expect("a journal");
    let bed = Bed { cluster, platform, watches, journal, stop: CancellationToken::new(), consent: Consent::default(), _folder: folder };
    bed.running(None, START).await;
    bed
}

/// The pod. Our own binary is in it, where the nodes share a folder with this machine.
async fn template(cluster: &Cluster) -> Value {
    let lost = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
    let mut container = json!({
        "name": "database", "image": image(cluster).await, "imagePullPolicy": "IfNotPresent", "command": ["bash", "-c", DATABASE],
        "resources": {"limits": {"memory": MEMORY}},
    });
    let mut volumes = json!([]);
    if let Some((_, inside)) = shared_binary() {
        container["volumeMounts"] = json!([{"name": "binary", "mountPath": "/comeback", "readOnly": true}]);
        volumes = json!([{"name": "binary", "hostPath": {"path": inside, "type": "File"}}]);
    }
    json!({
        "metadata": {"labels": {"app": "database"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "tolerations": [lost("not-ready"), lost("unreachable")],
            "containers": [container],
            "volumes": volumes,
        },
    })
}

/// With `COMEBACK_KIND_SHARED=HOST_FOLDER:NODE_FOLDER` our binary is put into that folder: where it is here, and where on a node.
pub(crate) fn shared_binary() -> Option<(PathBuf, String)> {
    let shared = env::var("COMEBACK_KIND_SHARED").ok()?;
    let (host, node) = shared.split_once(':').expect("COMEBACK_KIND_SHARED is HOST_FOLDER:NODE_FOLDER");
    let path = PathBuf::from(host).join("comeback-test-binary");
    std::fs::copy(env!("CARGO_BIN_EXE_comeback"), &path).expect("the shared folder can be written");
    Some((path, format!("{node}/comeback-test-binary")))
}

/// An image with bash that the nodes have.
async fn image(cluster: &Cluster) -> String {
    match env::var("COMEBACK_KIND_IMAGE") {
        Ok(image) => image,
        Err(_) => image_of_the_nodes(cluster, "kube-proxy").await.expect("a node has an image with bash, or COMEBACK_KIND_IMAGE names one"),
    }
}

/// An image that the nodes have, by a part of its name.
pub(crate) async fn image_of_the_nodes(cluster: &Cluster, part: &str) -> Option<String> {
    let nodes = cluster.all::<Node>().list(&ListParams::default()).await.expect("the cluster answers");
    let images = nodes.iter().flat_map(|node| node.status.iter().flat_map(|status| status.images.iter().flatten()));
    images.flat_map(|image| image.names.clone().unwrap_or_default()).find(|name| name.contains(part))
}

async fn create(cluster: &Cluster, group: &str, version: &str, kind: &str, object: Value) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let mut object: DynamicObject = serde_json::from_value(with_type(object, group, version, kind)).expect("an object");
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(cluster.client(), &namespace, &resource),
        None => Api::all_with(cluster.client(), &resource),
    };
    object.metadata.managed_fields = None;
    api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("could not create the {kind}: {error}"));
}

fn with_type(mut object: Value, group: &str, version: &str, kind: &str) -> Value {
    object["apiVersion"] = if group.is_empty() { version.into() } else { format!("{group}/{version}").into() };
    object["kind"] = kind.into();
    object
}

/// The error of a result, for a test that expects one.
pub(crate) fn refused<T: Debug>(result: Result<T, impl std::error::Error>) -> String {
    cluster::chain(&result.expect_err("it is refused"))
}
