//! A sandbox with a namespace that may be broken.

use std::time::Duration;

use comeback::{
    cluster::{Cluster, Target, View, watch::Watches},
    deploy::{self, Workload, wait},
    event::Sighting,
    fault::{Aim, Fault as _, Scene},
    platform::Platform,
    sandbox::{Options, Sandbox},
    scenario::{FaultSpec, TargetShape},
};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

/// The program that the pods of a sandbox run.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_comeback");
/// The namespace.
pub(crate) const NAMESPACE: &str = "comeback";

/// How long the database may take to be up.
pub(crate) const UP_DEADLINE: Duration = Duration::from_mins(2);

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

    /// One with the stand-in database in it, up; `args` are further ones of its container.
    pub(crate) async fn with_database(args: &[&str]) -> Self {
        let sandbox = Sandbox::start(Options { speed: 10, ..Options::new(PROGRAM) }).await.expect("the sandbox starts");
        let shape = TargetShape::Deployment;
        let further = args.iter().map(|arg| (*arg).to_owned());
        let workload = Workload { shape, ..Workload::stand_in("bed", deploy::new_password(), further) };
        let cluster = Cluster::new(sandbox.client().await.expect("a client"), Workload::target(shape));
        workload.apply_shared(&cluster).await.expect("the namespace can be made");
        let cluster = workload.put_up(&cluster).await.expect("the workload can be put up");
        let platform = Platform::detect(&cluster, None).await.expect("the sandbox answers");
        let bed = Self { cluster, platform, sandbox };
        bed.database_is_up().await;
        bed
    }

    /// Waits until it is.
    pub(crate) async fn database_is_up(&self) {
        wait::until_up(&self.cluster, TargetShape::Deployment, UP_DEADLINE).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// What is seen of the cluster from now on, the database's pod at least; and every change of it, one after the other.
    pub(crate) async fn watches(&self) -> (Watches, mpsc::UnboundedReceiver<Sighting>) {
        let (sink, mut seen) = mpsc::channel(16);
        let watches = Watches::start(&self.cluster, sink);
        let (kept, changes) = mpsc::unbounded_channel();
        // Also when nobody wants them: the watches go on only while they are taken.
        tokio::spawn(async move {
            while let Some(change) = seen.recv().await {
                let _ = kept.send(change);
            }
        });
        let ready = |view: &View| view.pods.values().any(|pod| pod.ready && !pod.terminating).then_some(());
        watches.wait_until("the pod", UP_DEADLINE, ready).await.expect("the pod is seen");
        (watches, changes)
    }

    /// Aims a fault as soon as there is a victim: what the fault before it did may not be seen yet.
    pub(crate) async fn aim(&self, fault: &FaultSpec, scene: &Scene<'_>) -> Aim {
        let end = Instant::now() + UP_DEADLINE;
        loop {
            match fault.aim(scene).await {
                Ok(aim) => return aim,
                Err(error) => assert!(Instant::now() < end, "`{}` has no victim: {error}", fault.name()),
            }
            sleep(Duration::from_millis(100)).await;
        }
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
