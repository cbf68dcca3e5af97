//! The workload that is put under test: a database of one instance with a persistent volume, a secret and a service, as Microsoft's guides for
//! SQL Server and Azure SQL Edge have it.
//!
//! - [`Engine`]: which database, and what it wants of its surroundings.
//! - [`shape`]: how it is deployed. Three shapes can be there at once, each with objects and a volume of its own; one of them runs.
//! - [`Workload::put_up`] takes the others away and puts one up; it can be repeated. [`switch_to`] does that on a cluster where `comeback cluster up`
//!   has written down what is there ([`Installed`]).
//! - [`wait`]: waits until it is up, and says why it is not.
//! - [`knock`]: the first acknowledged write through the service address, from within the cluster.
//!
//! Every object carries the id of the run as a label, so that whoever comes later can tell whose it is, and the namespace the one that allows
//! breaking what is in it. The password is made once and stands in the Secret alone.

mod engine;
mod installed;
pub mod knock;
pub mod shape;
pub mod wait;

use std::time::Duration;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service},
    },
};
use kube::{
    api::{DeleteParams, Patch, PatchParams, PropagationPolicy},
    runtime::watcher,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub use self::{
    engine::{Engine, FirstProcess, PORT, USER_ID, registry},
    installed::{ImageFrom, Installed, NAME as INSTALLED},
};
use self::{
    shape::Object,
    wait::{Look, gone},
};
use crate::{
    cluster::{CONSENT, CONSENT_LABEL, Cluster, ClusterError, Target},
    fault::CONTROL_PLANE_LABEL,
    scenario::TargetShape,
    workload::Password,
};

/// The name under which we apply objects.
const MANAGER: &str = "comeback";

/// The namespace of everything.
pub const NAMESPACE: &str = "comeback";

/// The run that objects belong to which were put up by `comeback cluster up`, to stay.
pub const RUN: &str = "cluster-up";

/// The name of the Secret that all shapes share.
pub const SECRET: &str = "mssql";
/// The key of the password in it, and the variable that the database reads it from.
const PASSWORD_KEY: &str = "MSSQL_SA_PASSWORD";

/// How long a shape that makes room for another may take to go: its grace period, and as much again.
const GONE_DEADLINE: Duration = Duration::from_secs(90);
/// How long objects without a process (claims, volumes) may take to go.
const REMOVED_DEADLINE: Duration = Duration::from_mins(1);

const NOT_FOUND: u16 = 404;

/// Where the volume comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Storage {
    /// A storage class, or the cluster's default one.
    Class(Option<String>),
    /// A folder that is the same one on every node, such as a shared mount; each engine and shape has one below it. It must be there, and user
    /// 10001 must be able to write to it: nothing does that for a folder of the node.
    HostPath {
        /// The folder, as the nodes see it.
        root: String,
    },
    /// As [`Storage::HostPath`], and each volume is a file system of a size of its own, mounted on every node: `data` in it is the volume.
    FileSystem {
        /// The folder below which they are mounted, as the nodes see it.
        root: String,
    },
}

/// What the bundled workload is made of.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The run that puts it up.
    pub run: String,
    /// How it is deployed.
    pub shape: TargetShape,
    /// Which database it is.
    pub engine: Engine,
    /// The image of the database.
    pub image: String,
    /// The arguments of its container; none for an image that knows what to do.
    pub args: Vec<String>,
    /// Where its volume comes from.
    pub storage: Storage,
    /// The password of `sa`; it is stored in a secret and nowhere else.
    pub password: Password,
}

/// The workload could not be brought to where it should be.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// A call to the cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Something that was to go is still there.
    #[error("{what} was still there after {}: {why}", humantime::format_duration(*.deadline))]
    NotGone {
        /// What.
        what: String,
        /// How long it was waited for.
        deadline: Duration,
        /// How it looks.
        why: String,
    },
    /// Nobody wrote down what stands on this cluster.
    #[error("there is no ConfigMap `{INSTALLED}` in namespace `{NAMESPACE}`: nothing was put up there (hint: `comeback cluster up`)")]
    NotInstalled,
    /// What is written down cannot be understood.
    #[error("ConfigMap `{INSTALLED}` in namespace `{NAMESPACE}` is not readable: {why} (hint: `comeback cluster up` writes it again)")]
    Installed {
        /// What is wrong with it.
        why: String,
    },
    /// The Secret lacks the password.
    #[error(
        "secret `{SECRET}` in namespace `{NAMESPACE}` has no `{PASSWORD_KEY}` (hint: `comeback cluster down`, then `comeback cluster up`)"
    )]
    NoPassword,
}

impl Storage {
    /// The folder of a shape's volume, as the nodes see it; empty where there is none.
    #[must_use]
    pub fn path(&self, engine: Engine, shape: TargetShape) -> String {
        match self {
            Self::Class(_) => String::new(),
            Self::HostPath { root } => format!("{root}/{}/{}", engine.name(), shape::name(shape)),
            Self::FileSystem { root } => format!("{root}/{}/{}/data", engine.name(), shape::name(shape)),
        }
    }
}

impl Workload {
    /// The stand-in database as a Deployment, as the sandbox runs it, with these further arguments.
    #[must_use]
    pub fn stand_in(run: &str, password: Password, further: impl IntoIterator<Item = String>) -> Self {
        Self {
            run: run.to_owned(),
            shape: TargetShape::Deployment,
            engine: Engine::Sqld,
            image: format!("comeback:{}", env!("CARGO_PKG_VERSION")),
            args: Self::args_of(Engine::Sqld).into_iter().chain(further).collect(),
            storage: Storage::Class(None),
            password,
        }
    }

    /// What was put up on a cluster, in this shape.
    #[must_use]
    pub fn installed(installed: &Installed, shape: TargetShape, password: Password) -> Self {
        Self {
            run: RUN.to_owned(),
            shape,
            engine: installed.engine,
            image: installed.image.clone(),
            args: Self::args_of(installed.engine),
            storage: installed.storage.clone(),
            password,
        }
    }

    fn args_of(engine: Engine) -> Vec<String> {
        match engine {
            Engine::Mssql2022 | Engine::Mssql2025 | Engine::Mssql2019 | Engine::AzureSqlEdge => Vec::new(),
            Engine::Sqld => vec!["sqld".to_owned()],
        }
    }

    /// Where a shape is found.
    #[must_use]
    pub fn target(shape: TargetShape) -> Target {
        let name = shape::name(shape);
        Target {
            namespace: NAMESPACE.to_owned(),
            selector: format!("app={name}"),
            container: shape::CONTAINER.to_owned(),
            service: name.to_owned(),
        }
    }

    /// What all shapes share: the namespace and the secret.
    pub async fn apply_shared(&self, cluster: &Cluster) -> Result<(), ClusterError> {
        let namespace = &cluster.target.namespace;
        let params = PatchParams::apply(MANAGER).force();
        let what = format!("apply namespace `{namespace}`");
        let object = self.namespace(namespace);
        cluster.call(what, cluster.all::<Namespace>().patch(namespace, &params, &Patch::Apply(&object))).await?;
        apply::<Secret>(cluster, "secret", SECRET, &self.secret()).await
    }

    /// Puts it up, or brings it to this state, and takes no other shape away. It can be repeated. Returns before it is up.
    pub async fn apply(&self, cluster: &Cluster) -> Result<(), ClusterError> {
        self.apply_shared(cluster).await?;
        let namespace = &cluster.target.namespace;
        let params = PatchParams::apply(MANAGER).force();
        for object in self.objects(namespace) {
            let name = object.name();
            match &object {
                Object::Volume(json) => {
                    let what = format!("apply volume `{name}`");
                    cluster.call(what, cluster.all::<PersistentVolume>().patch(name, &params, &Patch::Apply(json))).await?;
                }
                Object::Claim(json) => apply::<PersistentVolumeClaim>(cluster, "volume claim", name, json).await?,
                Object::Service(json) => apply::<Service>(cluster, "service", name, json).await?,
                Object::Deployment(json) => apply::<Deployment>(cluster, "deployment", name, json).await?,
                Object::StatefulSet(json) => apply::<StatefulSet>(cluster, "stateful set", name, json).await?,
            }
        }
        Ok(())
    }

    /// Takes the other shapes away, verified, and puts this one up. Returns the cluster with this shape as its target, before it is up.
    ///
    /// # Errors
    /// If another shape does not go: two servers are never let loose at once.
    pub async fn put_up(&self, cluster: &Cluster) -> Result<Cluster, DeployError> {
        for other in TargetShape::ALL.into_iter().filter(|other| *other != self.shape) {
            scale_to_zero(cluster, other).await?;
        }
        let cluster = Cluster::new(cluster.client(), Self::target(self.shape));
        if self.shape == TargetShape::Guide {
            self.clear_guide(&cluster).await?;
        }
        self.free_volume(&cluster).await?;
        self.apply(&cluster).await?;
        Ok(cluster)
    }

    /// The guide's manifest is rolled: another image would start a second server on the volume before the first one is gone.
    async fn clear_guide(&self, cluster: &Cluster) -> Result<(), DeployError> {
        let name = shape::name(TargetShape::Guide);
        let there = cluster.call(format!("read deployment `{name}`"), cluster.namespaced::<Deployment>().get_opt(name)).await?;
        let pod = there.and_then(|deployment| deployment.spec?.template.spec);
        let image = pod.and_then(|pod| pod.containers.into_iter().next()?.image);
        if image.is_some_and(|image| image != self.image) { scale_to_zero(cluster, TargetShape::Guide).await } else { Ok(()) }
    }

    /// A volume whose claim was deleted remembers that claim for ever, and binds to no other: it is made anew. Its folder stays.
    async fn free_volume(&self, cluster: &Cluster) -> Result<(), DeployError> {
        let name = shape::volume_name(self.shape);
        let volumes = cluster.all::<PersistentVolume>();
        let volume = cluster.call(format!("read volume `{name}`"), volumes.get_opt(name)).await?;
        let released = volume.is_some_and(|volume| volume.status.and_then(|status| status.phase).as_deref() == Some("Released"));
        if released {
            remove::<PersistentVolume>(cluster, &volumes, "volume", name).await?;
        }
        Ok(())
    }

    fn labels(&self) -> Value {
        json!({"app.kubernetes.io/managed-by": "comeback", "comeback.dev/run": self.run})
    }

    /// The namespace; its label says that what is in it may be broken.
    fn namespace(&self, name: &str) -> Value {
        let mut labels = self.labels();
        labels[CONSENT_LABEL] = CONSENT.into();
        // Only a cluster that we made has this namespace from us, and its control plane serves nobody else.
        labels[CONTROL_PLANE_LABEL] = CONSENT.into();
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    }

    fn secret(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "labels": self.labels()},
            "type": "Opaque",
            "stringData": {PASSWORD_KEY: self.password.reveal()},
        })
    }
}

/// Puts up the shape that a scenario wants, of what `comeback cluster up` has installed, and takes the one away that runs. Returns the cluster with
/// this shape as its target, before it is up.
///
/// # Errors
/// If nothing was installed, or the other shape does not go.
pub async fn switch_to(cluster: &Cluster, shape: TargetShape) -> Result<Cluster, DeployError> {
    let mut installed = Installed::read(cluster).await?;
    let password = password(cluster).await?;
    let cluster = Workload::installed(&installed, shape, password).put_up(cluster).await?;
    installed.shape = shape;
    installed.write(&cluster).await?;
    Ok(cluster)
}

/// The password that stands in the Secret.
pub async fn password(cluster: &Cluster) -> Result<Password, DeployError> {
    let secret = read_secret(cluster).await?.ok_or(DeployError::NoPassword)?;
    let bytes = secret.data.and_then(|mut data| data.remove(PASSWORD_KEY)).ok_or(DeployError::NoPassword)?;
    String::from_utf8(bytes.0).map(Password::new).map_err(|_| DeployError::NoPassword)
}

/// Whether a password was made on this cluster before.
pub async fn has_password(cluster: &Cluster) -> Result<bool, DeployError> {
    Ok(read_secret(cluster).await?.is_some())
}

async fn read_secret(cluster: &Cluster) -> Result<Option<Secret>, ClusterError> {
    cluster.call(format!("read secret `{SECRET}`"), cluster.namespaced::<Secret>().get_opt(SECRET)).await
}

/// A new password, of all the kinds of characters that SQL Server's policy wants.
#[must_use]
pub fn new_password() -> Password {
    Password::new(format!("Cb1!{}", uuid::Uuid::new_v4().simple()))
}

/// Scales a shape to nothing and waits until its pods are gone. One that is not there is no error.
///
/// # Errors
/// If a pod is still there at the deadline, such as one on a dead node.
pub async fn scale_to_zero(cluster: &Cluster, shape: TargetShape) -> Result<(), DeployError> {
    let name = shape::name(shape);
    let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let params = PatchParams::default();
    let what = format!("scale `{name}` to nothing");
    let scaled = match shape {
        TargetShape::Deployment | TargetShape::Guide => {
            cluster.call(what, cluster.namespaced::<Deployment>().patch(name, &params, &none)).await.map(drop)
        }
        TargetShape::StatefulSet => cluster.call(what, cluster.namespaced::<StatefulSet>().patch(name, &params, &none)).await.map(drop),
    };
    match scaled {
        Err(error) if error.status() != Some(NOT_FOUND) => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let selector = Workload::target(shape).selector;
    gone(&cluster.namespaced::<Pod>(), &selector, GONE_DEADLINE).await.map_err(|why| DeployError::NotGone {
        what: format!("the pod of `{name}`, which must make room for another,"),
        deadline: GONE_DEADLINE,
        why,
    })
}

/// Takes all shapes away with their claims and volumes, as before a change of the engine. What is in the folders stays.
///
/// # Errors
/// If something does not go.
pub async fn take_down(cluster: &Cluster) -> Result<(), DeployError> {
    for shape in TargetShape::ALL {
        scale_to_zero(cluster, shape).await?;
        let name = shape::name(shape);
        match shape {
            TargetShape::Deployment | TargetShape::Guide => {
                remove::<Deployment>(cluster, &cluster.namespaced(), "deployment", name).await?;
            }
            TargetShape::StatefulSet => remove::<StatefulSet>(cluster, &cluster.namespaced(), "stateful set", name).await?,
        }
        remove::<PersistentVolumeClaim>(cluster, &cluster.namespaced(), "volume claim", shape::claim_name(shape)).await?;
        remove::<PersistentVolume>(cluster, &cluster.all(), "volume", shape::volume_name(shape)).await?;
    }
    Ok(())
}

/// Deletes an object and waits until it is gone. One that is not there is no error.
async fn remove<K>(cluster: &Cluster, api: &kube::Api<K>, kind: &str, name: &str) -> Result<(), DeployError>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    match cluster.call(format!("delete {kind} `{name}`"), api.delete(name, &params)).await {
        Ok(_) => {}
        Err(error) if error.status() == Some(NOT_FOUND) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let which = watcher::Config::default().fields(&format!("metadata.name={name}"));
    wait::until(api, which, REMOVED_DEADLINE, |objects| {
        if objects.is_empty() { Look::Yes(()) } else { Look::NotYet("its deletion was asked for".to_owned()) }
    })
    .await
    .map_err(|(_, why)| DeployError::NotGone { what: format!("{kind} `{name}`"), deadline: REMOVED_DEADLINE, why })
}

async fn apply<K>(cluster: &Cluster, kind: &str, name: &str, object: &Value) -> Result<(), ClusterError>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = PatchParams::apply(MANAGER).force();
    cluster.call(format!("apply {kind} `{name}`"), cluster.namespaced::<K>().patch(name, &params, &Patch::Apply(object))).await.map(drop)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;

    fn workload() -> Workload {
        Workload::stand_in("run-1", Password::new("s3cret!".into()), ["--defect".into(), "flip-bit".into()])
    }

    fn on_host(shape: TargetShape, engine: Engine) -> Workload {
        Workload { shape, engine, storage: Storage::HostPath { root: "/var/comeback".into() }, ..workload() }
    }

    fn every() -> impl Iterator<Item = Workload> {
        let both =
            |shape| Engine::ALL.map(|engine| [on_host(shape, engine), Workload { shape, engine, ..workload() }]).into_iter().flatten();
        TargetShape::ALL.into_iter().flat_map(both)
    }

    fn pod(workload: &Workload) -> PodSpec {
        let objects = workload.objects(NAMESPACE);
        let template = objects.iter().find_map(|object| match object {
            Object::Deployment(json) | Object::StatefulSet(json) => Some(json["spec"]["template"]["spec"].clone()),
            Object::Volume(_) | Object::Claim(_) | Object::Service(_) => None,
        });
        serde_json::from_value(template.expect("each shape has a template")).unwrap()
    }

    #[test]
    fn the_objects_are_what_kubernetes_knows() {
        let workload = workload();
        serde_json::from_value::<Namespace>(workload.namespace("comeback")).unwrap();
        serde_json::from_value::<Secret>(workload.secret()).unwrap();
        for workload in every() {
            workload.objects(NAMESPACE).iter().for_each(shape::check_type);
        }
        assert_eq!(
            pod(&workload).containers[0].args.as_deref(),
            Some(["sqld".to_owned(), "--defect".into(), "flip-bit".into()].as_slice())
        );
    }

    #[test]
    fn the_password_is_in_the_secret_alone() {
        for workload in every() {
            for object in workload.objects(NAMESPACE) {
                assert!(!object.json().to_string().contains("s3cret!"));
            }
            assert!(!workload.namespace("comeback").to_string().contains("s3cret!"));
            assert!(workload.secret().to_string().contains("s3cret!"));
            assert!(!format!("{workload:?}").contains("s3cret!"));
        }
    }

    #[test]
    fn every_object_carries_the_run_and_the_namespace_the_consent() {
        let label = |object: &Value| object["metadata"]["labels"]["comeback.dev/run"].clone();
        for workload in every() {
            assert_eq!(label(&workload.namespace("n")), "run-1");
            assert_eq!(label(&workload.secret()), "run-1");
            for object in workload.objects(NAMESPACE) {
                assert_eq!(label(object.json()), "run-1");
            }
        }
        assert_eq!(workload().namespace("n")["metadata"]["labels"]["comeback.dev/chaos"], "allowed");
    }

    #[test]
    fn no_two_shapes_share_an_object() {
        let names = |shape| on_host(shape, Engine::Sqld).objects(NAMESPACE).iter().map(|one| one.name().to_owned()).collect::<Vec<_>>();
        let [a, b, c] = TargetShape::ALL.map(names);
        for name in a.iter().chain(&b) {
            let owners = [&a, &b, &c].iter().filter(|names| names.contains(name)).count();
            assert_eq!(owners, 1, "{name}");
        }
        let path = |shape| on_host(shape, Engine::Sqld).storage.path(Engine::Sqld, shape);
        assert_ne!(path(TargetShape::Deployment), path(TargetShape::Guide));
        let storage = Storage::HostPath { root: "/x".into() };
        assert_ne!(storage.path(Engine::Sqld, TargetShape::Guide), storage.path(Engine::Mssql2022, TargetShape::Guide));
    }

    #[test]
    fn each_shape_is_found_by_its_own_target() {
        for workload in every() {
            let target = Workload::target(workload.shape);
            let objects = workload.objects(NAMESPACE);
            let service = objects.iter().find_map(|one| if let Object::Service(json) = one { Some(json) } else { None }).unwrap();
            assert_eq!(service["metadata"]["name"], target.service.as_str());
            assert_eq!(target.selector, format!("app={}", service["spec"]["selector"]["app"].as_str().unwrap()));
            assert_eq!(pod(&workload).containers[0].name, target.container);
            let template = &objects.last().unwrap().json()["spec"]["template"]["metadata"]["labels"];
            assert_eq!(target.selector, format!("app={}", template["app"].as_str().unwrap()));
        }
    }

    #[test]
    fn the_guide_is_microsofts_and_ours_adds_what_it_lacks() {
        for engine in Engine::ALL {
            let guide = on_host(TargetShape::Guide, engine);
            let objects = guide.objects(NAMESPACE);
            let deployment = objects.last().unwrap().json();
            assert_eq!(deployment["spec"].get("strategy"), None);
            let pod_spec = pod(&guide);
            assert_eq!(pod_spec.termination_grace_period_seconds, Some(30));
            assert_eq!(pod_spec.hostname.as_deref(), Some("mssqlinst"));
            assert_eq!(pod_spec.security_context.as_ref().unwrap().fs_group, Some(10_001));
            assert!(pod_spec.containers[0].readiness_probe.is_none());
            assert!(pod_spec.affinity.is_none() && pod_spec.tolerations.is_none());

            for shape in [TargetShape::Deployment, TargetShape::StatefulSet] {
                let ours = pod(&on_host(shape, engine));
                assert!(ours.containers[0].readiness_probe.is_some());
                let seconds: Vec<_> = ours.tolerations.unwrap().into_iter().map(|one| (one.key.unwrap(), one.toleration_seconds)).collect();
                assert_eq!(
                    seconds,
                    [("node.kubernetes.io/unreachable".to_owned(), Some(5)), ("node.kubernetes.io/not-ready".to_owned(), Some(60))]
                );
                let terms = ours.affinity.unwrap().pod_anti_affinity.unwrap().required_during_scheduling_ignored_during_execution.unwrap();
                assert_eq!(
                    terms[0].label_selector.as_ref().unwrap().match_labels.as_ref().unwrap()["app.kubernetes.io/component"],
                    "prober"
                );
            }
            let ours = on_host(TargetShape::Deployment, engine).objects(NAMESPACE);
            assert_eq!(ours.last().unwrap().json()["spec"]["strategy"]["type"], "Recreate");
        }
    }

    #[test]
    fn a_folder_of_the_nodes_is_a_volume_for_one_claim_that_any_node_can_use() {
        for shape in TargetShape::ALL {
            let objects = on_host(shape, Engine::Mssql2022).objects(NAMESPACE);
            let Object::Volume(volume) = &objects[0] else { panic!("the volume comes first") };
            let volume: PersistentVolume = serde_json::from_value(volume.clone()).unwrap();
            let spec = volume.spec.unwrap();
            assert!(spec.node_affinity.is_none());
            assert_eq!(spec.storage_class_name.as_deref(), Some(""));
            assert_eq!(spec.host_path.unwrap().path, format!("/var/comeback/mssql-2022/{}", shape::name(shape)));
            assert_eq!(spec.claim_ref.unwrap().name.as_deref(), Some(shape::claim_name(shape)));
            let claim = objects.iter().find_map(|object| match object {
                Object::Claim(json) => Some(json["spec"].clone()),
                Object::StatefulSet(json) => Some(json["spec"]["volumeClaimTemplates"][0]["spec"].clone()),
                Object::Volume(_) | Object::Service(_) | Object::Deployment(_) => None,
            });
            let claim = claim.unwrap();
            assert_eq!((claim["storageClassName"].as_str(), claim["volumeName"].as_str()), (Some(""), Some(shape::volume_name(shape))));
        }
    }

    #[test]
    fn with_a_storage_class_the_volume_is_left_to_it() {
        let by = |class: Option<&str>| {
            let workload = Workload { storage: Storage::Class(class.map(ToOwned::to_owned)), ..workload() };
            let objects = workload.objects(NAMESPACE);
            let Object::Claim(claim) = &objects[0] else { panic!("no volume of ours") };
            claim["spec"].get("storageClassName").cloned()
        };
        assert_eq!(by(None), None);
        assert_eq!(by(Some("managed-csi")), Some("managed-csi".into()));
    }

    #[test]
    fn a_new_password_is_new_and_keeps_the_servers_rules() {
        let (one, two) = (new_password(), new_password());
        assert_ne!(one.reveal(), two.reveal());
        let text = one.reveal();
        assert!(text.len() >= 8 && text.chars().any(char::is_uppercase) && text.chars().any(char::is_lowercase));
        assert!(text.contains(|c: char| c.is_ascii_digit()) && text.contains('!'));
    }
}
