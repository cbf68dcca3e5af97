//! A sandbox with a namespace that may be broken.

use comeback::{
    cluster::{Cluster, Target},
    platform::Platform,
    sandbox::{Options, Sandbox},
};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// The program that the pods of a sandbox run.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_comeback");
/// The namespace.
pub(crate) const NAMESPACE: &str = "comeback";

pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) platform: Platform,
    pub(crate) sandbox: Sandbox,
}

impl Bed {
    pub(crate) async fn make() -> Self {
        let sandbox = Sandbox::start(Options { speed: 10, ..Options::new(PROGRAM) }).await.expect("the sandbox starts");
        let target =
            Target { namespace: NAMESPACE.into(), selector: "app=mssql".into(), container: "mssql".into(), service: "mssql".into() };
        let cluster = Cluster::new(sandbox.client().await.expect("a client"), target);
        let platform = Platform::detect(&cluster, None).await.expect("the sandbox answers");
        let bed = Self { cluster, platform, sandbox };
        bed.create(&bed.cluster.all::<Namespace>(), json!({"metadata": {"name": NAMESPACE}})).await;
        bed
    }

    pub(crate) async fn create<K>(&self, api: &Api<K>, object: Value) -> K
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let object = serde_json::from_value(object).expect("the object is of its kind");
        api.create(&PostParams::default(), &object).await.expect("the object is accepted")
    }

    /// The name of a worker.
    pub(crate) async fn worker(&self) -> String {
        let nodes = self.cluster.all::<Node>().list(&ListParams::default()).await.expect("the nodes can be listed");
        nodes.items.into_iter().next_back().and_then(|node| node.metadata.name).expect("there is a node")
    }

    pub(crate) async fn cordon(&self, node: &str) {
        let patch = Patch::Merge(json!({"spec": {"unschedulable": true}}));
        self.cluster.all::<Node>().patch(node, &PatchParams::default(), &patch).await.expect("the node can be cordoned");
    }

    pub(crate) async fn is_cordoned(&self, node: &str) -> bool {
        let node = self.cluster.node(node).await.expect("the node is there");
        node.spec.and_then(|spec| spec.unschedulable) == Some(true)
    }
}
