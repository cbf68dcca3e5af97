//! Fields that an object of a kind cannot have, or not of that type.

use k8s_openapi::api::{
    apps::v1 as apps, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery, policy::v1 as policy,
    storage::v1 as storage,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::super::{kinds::Kind, refusal::Refusal};

/// Refuses fields that nobody knows, for clients that ask for it (`fieldValidation=Strict`, as `kubectl` does): a misspelt field is a mistake.
pub(crate) fn check_fields(kind: Kind, object: &Value) -> Result<(), Refusal> {
    let known = typed(kind, object)?;
    let mut unknown = Vec::new();
    find_unknown(object, &known, &mut String::new(), &mut unknown);
    // A secret may be given in plain text, which is not how it is kept.
    unknown.retain(|field| !(kind == Kind::Secret && field.starts_with("stringData")));
    if unknown.is_empty() {
        return Ok(());
    }
    let list = unknown.iter().map(|field| format!("unknown field \"{field}\"")).collect::<Vec<_>>().join(", ");
    let name = kind.facts().name;
    let version = kind.facts().version;
    Err(Refusal::bad_request(format!("{name} in version \"{version}\" cannot be handled as a {name}: strict decoding error: {list}")))
}

/// Finds what is in `sent` and was lost on the way through the types.
fn find_unknown(sent: &Value, known: &Value, at: &mut String, unknown: &mut Vec<String>) {
    let length = at.len();
    match (sent, known) {
        (Value::Object(sent), Value::Object(known)) => {
            for (key, value) in sent {
                let is_nothing =
                    value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
                if !at.is_empty() {
                    at.push('.');
                }
                at.push_str(key);
                match known.get(key) {
                    Some(known) => find_unknown(value, known, at, unknown),
                    None if is_nothing => {}
                    None => unknown.push(at.clone()),
                }
                at.truncate(length);
            }
        }
        (Value::Array(sent), Value::Array(known)) => {
            for (n, (sent, known)) in sent.iter().zip(known).enumerate() {
                at.push('[');
                at.push_str(&n.to_string());
                at.push(']');
                find_unknown(sent, known, at, unknown);
                at.truncate(length);
            }
        }
        _ => {}
    }
}

/// The object as its type has it: a string where a number belongs is refused here, in the words of the decoder.
pub(super) fn typed(kind: Kind, object: &Value) -> Result<Value, Refusal> {
    fn read<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, serde_json::Error> {
        T::deserialize(object).and_then(|typed| serde_json::to_value(&typed))
    }
    let outcome = match kind {
        Kind::Namespace => read::<core::Namespace>(object),
        Kind::Node => read::<core::Node>(object),
        Kind::Pod => read::<core::Pod>(object),
        Kind::Service => read::<core::Service>(object),
        Kind::Secret => read::<core::Secret>(object),
        Kind::ConfigMap => read::<core::ConfigMap>(object),
        Kind::ServiceAccount => read::<core::ServiceAccount>(object),
        Kind::PersistentVolume => read::<core::PersistentVolume>(object),
        Kind::PersistentVolumeClaim => read::<core::PersistentVolumeClaim>(object),
        Kind::Event => read::<core::Event>(object),
        Kind::ControllerRevision => read::<apps::ControllerRevision>(object),
        Kind::ReplicaSet => read::<apps::ReplicaSet>(object),
        Kind::Deployment => read::<apps::Deployment>(object),
        Kind::StatefulSet => read::<apps::StatefulSet>(object),
        Kind::EndpointSlice => read::<discovery::EndpointSlice>(object),
        Kind::PodDisruptionBudget => read::<policy::PodDisruptionBudget>(object),
        Kind::StorageClass => read::<storage::StorageClass>(object),
        Kind::VolumeAttachment => read::<storage::VolumeAttachment>(object),
        Kind::Lease => read::<coordination::Lease>(object),
    };
    outcome.map_err(|error| {
        let name = kind.facts().name;
        // The decoder quotes what it could not read, and that may be the secret itself.
        let why = if kind == Kind::Secret { "its data must be strings in base64".to_owned() } else { error.to_string() };
        Refusal::bad_request(format!("{name} in version \"{}\" cannot be handled as a {name}: {why}", kind.facts().version))
    })
}
