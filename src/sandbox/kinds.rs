//! The kinds of object that the sandbox serves, and what the API says of each.
//!
//! To add a kind: a variant, its line in [`Kind::facts`], its place in [`Kind::ALL`], and what it checks and defaults in
//! [`admission`](super::admission).

use serde_json::Value;

use super::object::Look;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Namespace,
    Node,
    Pod,
    Service,
    Secret,
    ConfigMap,
    ServiceAccount,
    PersistentVolume,
    PersistentVolumeClaim,
    Event,
    ControllerRevision,
    ReplicaSet,
    Deployment,
    StatefulSet,
    EndpointSlice,
    PodDisruptionBudget,
    StorageClass,
    VolumeAttachment,
    Lease,
}

/// What the API says of a kind.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The API group; empty for the core one.
    pub(crate) group: &'static str,
    /// The version in that group.
    pub(crate) version: &'static str,
    /// The `kind` of an object.
    pub(crate) name: &'static str,
    /// The word in paths.
    pub(crate) plural: &'static str,
    /// Short words that `kubectl` accepts.
    pub(crate) short: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub(crate) namespaced: bool,
    /// The parts of an object that have a path of their own.
    pub(crate) subresources: &'static [&'static str],
    /// Whether `kubectl get all` lists it.
    pub(crate) in_all: bool,
}

macro_rules! facts {
    ($group:literal $version:literal $name:literal $plural:literal $short:expr, $namespaced:literal, $subresources:expr, $in_all:literal) => {
        &Facts {
            group: $group,
            version: $version,
            name: $name,
            plural: $plural,
            short: &$short,
            namespaced: $namespaced,
            subresources: &$subresources,
            in_all: $in_all,
        }
    };
}

impl Kind {
    /// Every kind, in the order of discovery.
    pub(crate) const ALL: [Self; 19] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::Secret,
        Self::ConfigMap,
        Self::ServiceAccount,
        Self::PersistentVolume,
        Self::PersistentVolumeClaim,
        Self::Event,
        Self::ControllerRevision,
        Self::ReplicaSet,
        Self::Deployment,
        Self::StatefulSet,
        Self::EndpointSlice,
        Self::PodDisruptionBudget,
        Self::StorageClass,
        Self::VolumeAttachment,
        Self::Lease,
    ];

    /// What the API says of this kind.
    pub(crate) fn facts(self) -> &'static Facts {
        match self {
            Self::Namespace => facts!("" "v1" "Namespace" "namespaces" ["ns"], false, ["status"], false),
            Self::Node => facts!("" "v1" "Node" "nodes" ["no"], false, ["status"], false),
            Self::Pod => facts!("" "v1" "Pod" "pods" ["po"], true, ["status", "log", "exec", "eviction"], true),
            Self::Service => facts!("" "v1" "Service" "services" ["svc"], true, ["status"], true),
            Self::Secret => facts!("" "v1" "Secret" "secrets" [], true, [], false),
            Self::ConfigMap => facts!("" "v1" "ConfigMap" "configmaps" ["cm"], true, [], false),
            Self::ServiceAccount => facts!("" "v1" "ServiceAccount" "serviceaccounts" ["sa"], true, [], false),
            Self::PersistentVolume => facts!("" "v1" "PersistentVolume" "persistentvolumes" ["pv"], false, ["status"], false),
            Self::PersistentVolumeClaim => {
                facts!("" "v1" "PersistentVolumeClaim" "persistentvolumeclaims" ["pvc"], true, ["status"], false)
            }
            Self::Event => facts!("" "v1" "Event" "events" ["ev"], true, [], false),
            Self::ControllerRevision => facts!("apps" "v1" "ControllerRevision" "controllerrevisions" [], true, [], false),
            Self::ReplicaSet => facts!("apps" "v1" "ReplicaSet" "replicasets" ["rs"], true, ["status", "scale"], true),
            Self::Deployment => facts!("apps" "v1" "Deployment" "deployments" ["deploy"], true, ["status", "scale"], true),
            Self::StatefulSet => facts!("apps" "v1" "StatefulSet" "statefulsets" ["sts"], true, ["status", "scale"], true),
            Self::EndpointSlice => facts!("discovery.k8s.io" "v1" "EndpointSlice" "endpointslices" [], true, [], false),
            Self::PodDisruptionBudget => {
                facts!("policy" "v1" "PodDisruptionBudget" "poddisruptionbudgets" ["pdb"], true, ["status"], false)
            }
            Self::StorageClass => facts!("storage.k8s.io" "v1" "StorageClass" "storageclasses" ["sc"], false, [], false),
            Self::VolumeAttachment => facts!("storage.k8s.io" "v1" "VolumeAttachment" "volumeattachments" [], false, ["status"], false),
            Self::Lease => facts!("coordination.k8s.io" "v1" "Lease" "leases" [], true, [], false),
        }
    }

    /// `apiVersion` of an object of this kind.
    pub(crate) fn api_version(self) -> String {
        let Facts { group, version, .. } = self.facts();
        if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") }
    }

    /// Whether `status` is a part of its own, which a plain update leaves alone.
    pub(crate) fn has_status(self) -> bool {
        self.facts().subresources.contains(&"status")
    }

    /// The kind that a path of that group, version and word means.
    pub(crate) fn of_path(group: &str, version: &str, plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            let facts = kind.facts();
            facts.group == group && facts.version == version && facts.plural == plural
        })
    }

    /// The kind that an owner reference or an object names.
    pub(crate) fn of_object(object: &Value) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.facts().name == object.text("/kind") && kind.api_version() == object.text("/apiVersion"))
    }
}
