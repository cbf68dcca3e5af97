//! The manifests of the workload, one set for each shape.
//!
//! | shape | workload | what is special |
//! |---|---|---|
//! | `deployment` | Deployment `mssql` | `Recreate`, a readiness probe, 5 s for a node that does not answer |
//! | `statefulSet` | `StatefulSet` `mssql-stateful` | the same pod, its claim from a template; a pod on a dead node is not replaced |
//! | `guide` | Deployment `mssql-guide` | Microsoft's manifest for SQL Server on AKS, as it stands |
//!
//! The guide's manifest has no readiness probe and no strategy, so it is rolled (the new pod comes before the old one goes), and nothing about
//! nodes, so a pod stays on one that is dead for 300 s. Ours differs from Microsoft's in the image, the storage class (their `azure-disk`
//! names a provisioner that is gone) and the type of the Service, which is not a load balancer; in the names, so that it can stand
//! beside the other shapes; and for the stand-in, which is not SQL Server, in the resources, which are left out.
//!
//! In our own shapes the pod keeps away from the prober, so that breaking its node does not break the observer. The guide's manifest says nothing
//! of that: there the prober keeps away from it.

use serde_json::{Value, json};

use super::{
    SECRET, Storage, Workload,
    engine::{DATA, PORT},
};
use crate::{
    cluster::{OWN_SIZE, VOLUME_LABEL},
    scenario::TargetShape,
};

/// The container that runs the database, in every shape.
pub(super) const CONTAINER: &str = "mssql";

/// The name that `@@SERVERNAME` tells, over restarts and moves.
const HOSTNAME: &str = "mssqlinst";

/// The label by which the pods of the prober are known.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// What it says on a prober.
pub const PROBER: &str = "prober";

/// How long our own shapes stay on a node that does not answer. Kubernetes' default is 300 s, which the guide has.
const SILENT_NODE_SECONDS: i64 = 5;
/// How long they stay on one that answers and says itself that it is not ready: it is starting. A kubelet whose first report after a start is so reports again
/// after ten seconds, and a database that serves by then would be taken away from there.
const STARTING_NODE_SECONDS: i64 = 60;

/// How much the volume is asked to hold.
const CAPACITY: &str = "8Gi";

/// One object, of the kinds that are in a namespace and the one that is not.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    Volume(Value),
    Claim(Value),
    Service(Value),
    Deployment(Value),
    StatefulSet(Value),
}

/// The name of a shape's workload and service.
#[must_use]
pub const fn name(shape: TargetShape) -> &'static str {
    match shape {
        TargetShape::Deployment => "mssql",
        TargetShape::StatefulSet => "mssql-stateful",
        TargetShape::Guide => "mssql-guide",
    }
}

/// The name of a shape's claim.
#[must_use]
pub const fn claim_name(shape: TargetShape) -> &'static str {
    match shape {
        TargetShape::Deployment => "mssql-data",
        // As the controller calls what it makes from the template.
        TargetShape::StatefulSet => "data-mssql-stateful-0",
        TargetShape::Guide => "mssql-guide-data",
    }
}

/// The name of a shape's volume, where we make it ourselves.
#[must_use]
pub const fn volume_name(shape: TargetShape) -> &'static str {
    match shape {
        TargetShape::Deployment => "comeback-mssql",
        TargetShape::StatefulSet => "comeback-mssql-stateful",
        TargetShape::Guide => "comeback-mssql-guide",
    }
}

impl Workload {
    /// What this workload is made of, in the order in which it is put up.
    pub(super) fn objects(&self, namespace: &str) -> Vec<Object> {
        let mut objects = Vec::new();
        if let Storage::HostPath { .. } | Storage::FileSystem { .. } = &self.storage {
            objects.push(Object::Volume(self.volume(namespace)));
        }
        match self.shape {
            TargetShape::Deployment | TargetShape::Guide => objects.push(Object::Claim(self.claim())),
            TargetShape::StatefulSet => {}
        }
        objects.push(Object::Service(self.service()));
        objects.push(match self.shape {
            TargetShape::Deployment => Object::Deployment(self.deployment()),
            TargetShape::StatefulSet => Object::StatefulSet(self.stateful_set()),
            TargetShape::Guide => Object::Deployment(self.guide()),
        });
        objects
    }

    fn name(&self) -> &'static str {
        name(self.shape)
    }

    /// A folder of every node that is the same on all of them, so that it may be used from any.
    fn volume(&self, namespace: &str) -> Value {
        let path = self.storage.path(self.engine, self.shape);
        let mut labels = self.labels();
        if let Storage::FileSystem { .. } = &self.storage {
            labels[VOLUME_LABEL] = OWN_SIZE.into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume_name(self.shape), "labels": labels},
            "spec": {
                "capacity": {"storage": CAPACITY},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "volumeMode": "Filesystem",
                // For this claim alone.
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim_name(self.shape)},
                // Not made when it is missing: a fresh one would be an empty database in the old one's place.
                "hostPath": {"path": path, "type": "Directory"},
            },
        })
    }

    fn claim_spec(&self) -> Value {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": CAPACITY}}});
        match &self.storage {
            Storage::Class(None) => {}
            Storage::Class(Some(class)) => spec["storageClassName"] = class.as_str().into(),
            Storage::HostPath { .. } | Storage::FileSystem { .. } => {
                spec["storageClassName"] = "".into();
                spec["volumeName"] = volume_name(self.shape).into();
            }
        }
        spec
    }

    fn claim(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim_name(self.shape), "labels": self.labels()},
            "spec": self.claim_spec(),
        })
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name(), "labels": self.labels()},
            "spec": {
                "type": "ClusterIP",
                "selector": {"app": self.name()},
                "ports": [{"name": "tds", "protocol": "TCP", "port": PORT, "targetPort": PORT}],
            },
        })
    }

    /// The container as all shapes have it.
    fn container(&self, volume: &str) -> Value {
        let mut container = json!({
            "name": CONTAINER,
            "image": self.image,
            "ports": [{"name": "tds", "containerPort": PORT, "protocol": "TCP"}],
            "env": self.engine.environment(SECRET),
            "volumeMounts": [{"name": volume, "mountPath": DATA}],
        });
        if !self.args.is_empty() {
            container["args"] = self.args.clone().into();
        }
        if let Some(security) = self.engine.security() {
            container["securityContext"] = security;
        }
        container
    }

    fn pod_labels(&self) -> Value {
        json!({"app": self.name(), "comeback.dev/run": self.run})
    }

    /// The pod of our own shapes.
    fn pod(&self) -> Value {
        let mut container = self.container("data");
        container["imagePullPolicy"] = "IfNotPresent".into();
        container["readinessProbe"] = self.engine.readiness();
        container["resources"] = self.engine.resources();
        let patience = |taint: &str, seconds: i64| {
            json!({
                "key": format!("node.kubernetes.io/{taint}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
            })
        };
        json!({
            "terminationGracePeriodSeconds": 30,
            "hostname": HOSTNAME,
            // Variables for each Service of the namespace are of no use to it, and one of them may be taken for its own.
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "securityContext": {"fsGroup": super::USER_ID},
            "tolerations": [patience("unreachable", SILENT_NODE_SECONDS), patience("not-ready", STARTING_NODE_SECONDS)],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                "labelSelector": {"matchLabels": {COMPONENT: PROBER}},
                "topologyKey": "kubernetes.io/hostname",
            }]}},
            "containers": [container],
        })
    }

    fn deployment(&self) -> Value {
        let mut pod = self.pod();
        pod["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": claim_name(self.shape)}}]);
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name(), "labels": self.labels()},
            "spec": {
                "replicas": 1,
                // Two servers must never meet on one volume: the old pod goes before the new one comes.
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": {"app": self.name()}},
                "template": {"metadata": {"labels": self.pod_labels()}, "spec": pod},
            },
        })
    }

    fn stateful_set(&self) -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": self.name(), "labels": self.labels()},
            "spec": {
                "replicas": 1,
                "serviceName": self.name(),
                "selector": {"matchLabels": {"app": self.name()}},
                "template": {"metadata": {"labels": self.pod_labels()}, "spec": self.pod()},
                "volumeClaimTemplates": [{
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "data", "labels": self.labels()},
                    "spec": self.claim_spec(),
                }],
            },
        })
    }

    /// Microsoft's manifest; see the module for what differs.
    fn guide(&self) -> Value {
        let mut container = self.container("mssqldb");
        if let Some(resources) = self.engine.guide_resources() {
            container["resources"] = resources;
        }
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name(), "labels": self.labels()},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": self.name()}},
                "template": {
                    "metadata": {"labels": self.pod_labels()},
                    "spec": {
                        "terminationGracePeriodSeconds": 30,
                        "hostname": HOSTNAME,
                        "securityContext": {"fsGroup": super::USER_ID},
                        "containers": [container],
                        "volumes": [{"name": "mssqldb", "persistentVolumeClaim": {"claimName": claim_name(self.shape)}}],
                    },
                },
            },
        })
    }
}

impl Object {
    /// The object itself.
    pub(super) const fn json(&self) -> &Value {
        match self {
            Self::Volume(json) | Self::Claim(json) | Self::Service(json) | Self::Deployment(json) | Self::StatefulSet(json) => json,
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.json()["metadata"]["name"].as_str().expect("every manifest has a name")
    }
}

/// Reads it as what it says it is.
#[cfg(test)]
pub(super) fn check_type(object: &Object) {
    use k8s_openapi::api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{PersistentVolume, PersistentVolumeClaim, Service},
    };
    let json = object.json().clone();
    match object {
        Object::Volume(_) => drop(serde_json::from_value::<PersistentVolume>(json).unwrap()),
        Object::Claim(_) => drop(serde_json::from_value::<PersistentVolumeClaim>(json).unwrap()),
        Object::Service(_) => drop(serde_json::from_value::<Service>(json).unwrap()),
        Object::Deployment(_) => drop(serde_json::from_value::<Deployment>(json).unwrap()),
        Object::StatefulSet(_) => drop(serde_json::from_value::<StatefulSet>(json).unwrap()),
    }
}
