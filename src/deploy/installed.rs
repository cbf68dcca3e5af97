//! What stands on a cluster, written down there by `comeback cluster up` for those who come later: `comeback run`, `comeback cluster status`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{DeployError, Engine, MANAGER, NAMESPACE, RUN, Storage};
use crate::{
    cluster::{Cluster, ClusterError},
    scenario::TargetShape,
};

/// The name of the `ConfigMap`.
pub const NAME: &str = "comeback";

/// What stands on a cluster. The password is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Installed {
    /// Which database.
    pub engine: Engine,
    /// The image of the database.
    pub image: String,
    /// Docker's id of that image as it was brought into the nodes: another build may come to have the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Our own image, of the prober and of whatever else of ours runs there.
    pub own_image: String,
    /// Who has made that image.
    #[serde(default)]
    pub own_image_from: ImageFrom,
    /// The shape that was put up last.
    pub shape: TargetShape,
    /// Where the volumes come from.
    pub storage: Storage,
}

/// Who has made an image of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ImageFrom {
    /// `comeback cluster up`, of the program that ran it.
    #[default]
    Program,
    /// Somebody else; it was named with `--image`.
    Elsewhere,
}

impl Installed {
    /// Reads what is written down.
    ///
    /// # Errors
    /// If nothing is, or it cannot be understood.
    pub async fn read(cluster: &Cluster) -> Result<Self, DeployError> {
        Self::find(cluster).await?.ok_or(DeployError::NotInstalled)
    }

    /// Reads what is written down, if anything is.
    ///
    /// # Errors
    /// If it cannot be understood.
    pub async fn find(cluster: &Cluster) -> Result<Option<Self>, DeployError> {
        let map = cluster.call(format!("read config map `{NAME}`"), cluster.namespaced::<ConfigMap>().get_opt(NAME)).await?;
        map.map(|map| Self::of(&map.data.unwrap_or_default())).transpose()
    }

    /// Writes it down, over what is there.
    pub async fn write(&self, cluster: &Cluster) -> Result<(), ClusterError> {
        let params = PatchParams::apply(MANAGER).force();
        let what = format!("write config map `{NAME}`");
        cluster.call(what, cluster.namespaced::<ConfigMap>().patch(NAME, &params, &Patch::Apply(&self.manifest()))).await.map(drop)
    }

    fn manifest(&self) -> Value {
        let labels = json!({"app.kubernetes.io/managed-by": "comeback", "comeback.dev/run": RUN});
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
            "data": self.data(),
        })
    }

    /// One key for each field, readable with `kubectl get -o yaml`; what is no text is JSON.
    fn data(&self) -> BTreeMap<String, String> {
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else { unreachable!("a struct is an object") };
        let text = |value: Value| if let Value::String(text) = value { text } else { value.to_string() };
        fields.into_iter().map(|(key, value)| (key, text(value))).collect()
    }

    fn of(data: &BTreeMap<String, String>) -> Result<Self, DeployError> {
        let value = |text: &String| match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => value,
            Ok(_) | Err(_) => text.as_str().into(),
        };
        let fields: serde_json::Map<_, _> = data.iter().map(|(key, text)| (key.clone(), value(text))).collect();
        serde_json::from_value(fields.into()).map_err(|error| DeployError::Installed { why: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(storage: Storage) -> Installed {
        Installed {
            engine: Engine::Sqld,
            image: "comeback:1".into(),
            image_id: None,
            own_image: "comeback:1".into(),
            own_image_from: ImageFrom::Elsewhere,
            shape: TargetShape::StatefulSet,
            storage,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for storage in [Storage::Class(None), Storage::Class(Some("x".into())), Storage::HostPath { root: "/var/comeback".into() }] {
            let installed =
                Installed { image_id: matches!(storage, Storage::Class(None)).then(|| "sha256:0".into()), ..installed(storage) };
            let map: ConfigMap = serde_json::from_value(installed.manifest()).unwrap();
            assert_eq!(Installed::of(&map.data.unwrap()).unwrap(), installed);
        }
    }

    #[test]
    fn an_image_of_which_nothing_is_said_is_taken_for_one_of_this_program() {
        let mut data = installed(Storage::Class(None)).data();
        assert_eq!(data.remove("ownImageFrom").as_deref(), Some("elsewhere"));
        assert_eq!(Installed::of(&data).unwrap().own_image_from, ImageFrom::Program);
    }

    #[test]
    fn plain_fields_are_plain_text() {
        let data = installed(Storage::Class(None)).data();
        assert_eq!((data["engine"].as_str(), data["shape"].as_str(), data["ownImage"].as_str()), ("sqld", "statefulSet", "comeback:1"));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let mut data = installed(Storage::Class(None)).data();
        data.insert("engine".into(), "oracle".into());
        let error = Installed::of(&data).unwrap_err().to_string();
        assert!(error.contains("oracle") && error.contains("cluster up"), "{error}");
        assert!(Installed::of(&BTreeMap::new()).is_err());
    }
}
