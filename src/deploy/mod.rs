//! The workload that is put under test, as Microsoft's guide for SQL Edge has it: a Deployment of one replica with a persistent volume
//! claim, a secret and a service. Ours adds what the guide's manifest lacks: the strategy `Recreate` and a readiness probe.
//!
//! Every object carries the id of the run as a label, so that whoever comes later can tell whose it is.

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        core::v1::{Namespace, PersistentVolumeClaim, Secret, Service},
    },
};
use kube::api::{Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, ClusterError, Target},
    workload::Password,
};

/// The name under which we apply objects.
const MANAGER: &str = "comeback";

/// The port of the database, in the container and of the service.
const PORT: u16 = 1433;

/// What the bundled workload is made of.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The run that puts it up.
    pub run: String,
    /// The image of the database.
    pub image: String,
    /// The arguments of its container.
    pub args: Vec<String>,
    /// The password of `sa`; it is stored in a secret and nowhere else.
    pub password: Password,
}

impl Workload {
    /// The stand-in database, with these further arguments.
    #[must_use]
    pub fn stand_in(run: &str, password: Password, further: impl IntoIterator<Item = String>) -> Self {
        let image = format!("comeback:{}", env!("CARGO_PKG_VERSION"));
        Self { run: run.to_owned(), image, args: std::iter::once("sqld".to_owned()).chain(further).collect(), password }
    }

    /// Where it is found.
    #[must_use]
    pub fn target() -> Target {
        Target {
            namespace: "comeback".to_owned(),
            selector: "app=mssql".to_owned(),
            container: "mssql".to_owned(),
            service: "mssql".to_owned(),
        }
    }

    /// Puts it up, or brings it to this state. It can be repeated.
    pub async fn apply(&self, cluster: &Cluster) -> Result<(), ClusterError> {
        let namespace = &cluster.target.namespace;
        let (name, object) = self.namespace(namespace);
        let params = PatchParams::apply(MANAGER).force();
        let what = format!("apply namespace `{name}`");
        cluster.call(what, cluster.all::<Namespace>().patch(&name, &params, &Patch::Apply(&object))).await?;
        apply::<Secret>(cluster, "secret", "mssql", &self.secret()).await?;
        apply::<PersistentVolumeClaim>(cluster, "volume claim", "mssql-data", &self.claim()).await?;
        apply::<Service>(cluster, "service", "mssql", &self.service()).await?;
        apply::<Deployment>(cluster, "deployment", "mssql", &self.deployment()).await
    }

    fn labels(&self) -> Value {
        json!({"app.kubernetes.io/managed-by": "comeback", "comeback.dev/run": self.run})
    }

    /// The namespace; its label says that what is in it may be broken.
    fn namespace(&self, name: &str) -> (String, Value) {
        let mut labels = self.labels();
        labels["comeback.dev/chaos"] = "allowed".into();
        (name.to_owned(), json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
    }

    fn secret(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "mssql", "labels": self.labels()},
            "type": "Opaque",
            "stringData": {"MSSQL_SA_PASSWORD": self.password.reveal()},
        })
    }

    fn claim(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "mssql-data", "labels": self.labels()},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Gi"}}},
        })
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "mssql", "labels": self.labels()},
            "spec": {
                "type": "ClusterIP",
                "selector": {"app": "mssql"},
                "ports": [{"name": "tds", "protocol": "TCP", "port": PORT, "targetPort": PORT}],
            },
        })
    }

    fn deployment(&self) -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "mssql", "labels": self.labels()},
            "spec": {
                "replicas": 1,
                // Two servers must never meet on one volume: the old pod goes before the new one comes.
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": {"app": "mssql"}},
                "template": {
                    "metadata": {"labels": {"app": "mssql", "comeback.dev/run": self.run}},
                    "spec": {
                        "terminationGracePeriodSeconds": 30,
                        // Keeps `@@SERVERNAME` stable over restarts.
                        "hostname": "mssqlinst",
                        "securityContext": {"fsGroup": 10_001},
                        "containers": [{
                            "name": "mssql",
                            "image": self.image,
                            "args": self.args,
                            "ports": [{"name": "tds", "containerPort": PORT, "protocol": "TCP"}],
                            "env": [
                                {"name": "ACCEPT_EULA", "value": "Y"},
                                {"name": "MSSQL_PID", "value": "Developer"},
                                {"name": "MSSQL_SA_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "mssql", "key": "MSSQL_SA_PASSWORD"}}},
                            ],
                            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 2, "timeoutSeconds": 1, "failureThreshold": 1},
                            "volumeMounts": [{"name": "data", "mountPath": "/var/opt/mssql"}],
                        }],
                        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "mssql-data"}}],
                    },
                },
            },
        })
    }
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
    use super::*;

    fn workload() -> Workload {
        Workload::stand_in("run-1", Password::new("s3cret!".into()), ["--defect".into(), "flip-bit".into()])
    }

    #[test]
    fn the_objects_are_what_kubernetes_knows() {
        let workload = workload();
        serde_json::from_value::<Namespace>(workload.namespace("comeback").1).unwrap();
        serde_json::from_value::<Secret>(workload.secret()).unwrap();
        serde_json::from_value::<PersistentVolumeClaim>(workload.claim()).unwrap();
        let service: Service = serde_json::from_value(workload.service()).unwrap();
        let deployment: Deployment = serde_json::from_value(workload.deployment()).unwrap();
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.containers[0].args.as_deref(), Some(["sqld".to_owned(), "--defect".into(), "flip-bit".into()].as_slice()));
        assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, 1433);
    }

    #[test]
    fn the_password_is_in_the_secret_alone() {
        let workload = workload();
        for object in [workload.namespace("comeback").1, workload.claim(), workload.service(), workload.deployment()] {
            assert!(!object.to_string().contains("s3cret!"));
        }
        assert!(workload.secret().to_string().contains("s3cret!"));
        assert!(!format!("{workload:?}").contains("s3cret!"));
    }

    #[test]
    fn every_object_carries_the_run() {
        let workload = workload();
        for object in [workload.namespace("n").1, workload.secret(), workload.claim(), workload.service(), workload.deployment()] {
            assert_eq!(object["metadata"]["labels"]["comeback.dev/run"], "run-1");
        }
    }
}
