//! The two places, each with the workload in it: what is done to them is the same code, so that what differs is the cluster.

use std::{env, path::PathBuf, time::Duration};

use comeback::{
    cluster::{self, Cluster, connect},
    deploy::{self, Storage, Workload, wait},
    platform::Platform,
    sandbox::{Options, Sandbox},
    scenario::TargetShape,
};

/// The program that the pods of a sandbox run.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_comeback");
/// How much faster than Kubernetes the sandbox is: half as much as in a run.
const SPEED: u32 = 10;
/// How long the workload may take to be up.
const UP_DEADLINE: Duration = Duration::from_mins(3);

/// A place with the workload, up and fresh.
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) platform: Platform,
    pub(crate) shape: TargetShape,
    /// What Kubernetes it is.
    pub(crate) kubernetes: String,
    /// How long nothing may change until it counts as quiet.
    pub(crate) quiet: Duration,
    /// Where kubectl finds it.
    pub(crate) kubeconfig: PathBuf,
    sandbox: Option<(Sandbox, tempfile::TempDir)>,
}

impl Bed {
    /// A sandbox of its own, with the stand-in in it.
    pub(crate) async fn on_sandbox(shape: TargetShape) -> Self {
        let sandbox = Sandbox::start(Options { speed: SPEED, ..Options::new(PROGRAM) }).await.expect("the sandbox starts");
        let client = connect(sandbox.kubeconfig()).await.expect("a client");
        // The volume is of the same kind as on kind: a folder that every node sees, and that nobody attaches.
        let storage = Storage::HostPath { root: "/var/comeback".to_owned() };
        let workload = Workload { shape, storage, ..Workload::stand_in("fidelity", deploy::new_password(), []) };
        let cluster = Cluster::new(client, Workload::target(shape));
        workload.apply_shared(&cluster).await.expect("the namespace can be made");
        let cluster = workload.put_up(&cluster).await.expect("the workload can be put up");
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, sandbox.kubeconfig_text()).expect("the kubeconfig can be written");
        // Long against everything that a sandbox at this speed waits for, its kubelets' periods of ten seconds included.
        let quiet = Duration::from_millis(1_200);
        Self::up(cluster, shape, quiet, kubeconfig, Some((sandbox, folder))).await
    }

    /// The kind cluster of the current context, where `comeback cluster up --engine sqld` put the stand-in; its pod is made anew.
    pub(crate) async fn on_kind(shape: TargetShape) -> Self {
        let opened = cluster::open(None, Workload::target(shape)).await.expect("KUBECONFIG names a cluster");
        deploy::scale_to_zero(&opened.cluster, shape).await.expect("the old pod goes");
        let cluster = deploy::switch_to(&opened.cluster, shape).await.expect("`comeback cluster up` was there");
        let kubeconfig = env::var_os("KUBECONFIG").expect("KUBECONFIG names a cluster").into();
        Self::up(cluster, shape, Duration::from_secs(4), kubeconfig, None).await
    }

    async fn up(
        cluster: Cluster,
        shape: TargetShape,
        quiet: Duration,
        kubeconfig: PathBuf,
        sandbox: Option<(Sandbox, tempfile::TempDir)>,
    ) -> Self {
        wait::until_up(&cluster, shape, UP_DEADLINE).await.unwrap_or_else(|error| panic!("{error}"));
        let platform = Platform::detect(&cluster, None).await.expect("the cluster answers");
        let kubernetes = cluster.version().await.expect("the cluster answers");
        if sandbox.is_none() {
            assert_eq!(platform.name(), "kind", "the current context must be a cluster that kind made");
        }
        Self { cluster, platform, shape, kubernetes, quiet, kubeconfig, sandbox }
    }

    /// Stops what was started.
    pub(crate) async fn stop(self) {
        if let Some((sandbox, _folder)) = self.sandbox {
            sandbox.stop().await;
        }
    }
}
