//! The workload that the database's pod belongs to: what makes it, and makes it again.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{FaultError, Scene};
use crate::cluster::{Cluster, ClusterError};

/// A workload, by kind and name, in the target's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadName {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What makes pods again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A `StatefulSet`.
    StatefulSet,
}

/// How a workload stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stand {
    /// How many pods it is to have.
    pub(super) wanted: i32,
    /// How many it has.
    pub(super) there: i32,
    /// When its pods were last asked to be made anew.
    pub(super) restarted: Option<String>,
}

/// The annotation by which `kubectl rollout restart` has pods made anew.
pub(super) const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

impl WorkloadName {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let kind = match self.kind {
            WorkloadKind::Deployment => "deployment",
            WorkloadKind::StatefulSet => "stateful set",
        };
        format!("{kind} `{}`", self.name)
    }

    /// The workload of a pod.
    pub(super) async fn of(scene: &Scene<'_>, pod: &Pod) -> Result<Self, FaultError> {
        let cluster = scene.cluster;
        let namespace = cluster.target.namespace.clone();
        let owner = |owners: Option<&Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference>>, kind: &str| {
            owners.into_iter().flatten().find(|owner| owner.kind == kind).map(|owner| owner.name.clone())
        };
        let owners = pod.metadata.owner_references.as_ref();
        if let Some(name) = owner(owners, "StatefulSet") {
            return Ok(Self { kind: WorkloadKind::StatefulSet, namespace, name });
        }
        let what = || format!("pod `{}`", pod.metadata.name.as_deref().unwrap_or_default());
        let missing = || ClusterError::Incomplete { what: what(), missing: "workload that would make it again" };
        let set = owner(owners, "ReplicaSet").ok_or_else(missing)?;
        let set = cluster.call(format!("read replica set `{set}`"), cluster.namespaced::<ReplicaSet>().get(&set)).await?;
        let name = owner(set.metadata.owner_references.as_ref(), "Deployment").ok_or_else(missing)?;
        Ok(Self { kind: WorkloadKind::Deployment, namespace, name })
    }

    /// How it stands.
    pub(super) async fn stand(&self, cluster: &Cluster) -> Result<Stand, ClusterError> {
        let what = format!("read {}", self.text());
        let annotation = |template: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>| {
            template.and_then(|meta| meta.annotations).and_then(|mut all| all.remove(RESTARTED))
        };
        match self.kind {
            WorkloadKind::Deployment => {
                let api: Api<Deployment> = Api::namespaced(cluster.client(), &self.namespace);
                let object = cluster.call(what, api.get(&self.name)).await?;
                let there = object.status.and_then(|status| status.replicas).unwrap_or_default();
                let spec = object.spec.unwrap_or_default();
                Ok(Stand { wanted: spec.replicas.unwrap_or(1), there, restarted: annotation(spec.template.metadata) })
            }
            WorkloadKind::StatefulSet => {
                let api: Api<StatefulSet> = Api::namespaced(cluster.client(), &self.namespace);
                let object = cluster.call(what, api.get(&self.name)).await?;
                let there = object.status.map(|status| status.replicas).unwrap_or_default();
                let spec = object.spec.unwrap_or_default();
                Ok(Stand { wanted: spec.replicas.unwrap_or(1), there, restarted: annotation(spec.template.metadata) })
            }
        }
    }

    /// Changes it.
    pub(super) async fn change(&self, cluster: &Cluster, what: &str, patch: &Value) -> Result<(), ClusterError> {
        let what = format!("{what} {}", self.text());
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        match self.kind {
            WorkloadKind::Deployment => {
                let api: Api<Deployment> = Api::namespaced(cluster.client(), &self.namespace);
                cluster.call(what, api.patch(&self.name, &params, &patch)).await.map(drop)
            }
            WorkloadKind::StatefulSet => {
                let api: Api<StatefulSet> = Api::namespaced(cluster.client(), &self.namespace);
                cluster.call(what, api.patch(&self.name, &params, &patch)).await.map(drop)
            }
        }
    }

    /// Gives it another count of pods.
    pub(super) async fn scale(&self, cluster: &Cluster, replicas: i32) -> Result<(), ClusterError> {
        self.change(cluster, &format!("scale to {replicas}:"), &json!({"spec": {"replicas": replicas}})).await
    }
}
