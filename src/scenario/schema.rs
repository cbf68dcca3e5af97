//! The JSON Schema of a scenario, for editors.

use std::sync::LazyLock;

use schemars::{JsonSchema as _, Schema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{
    After, FaultSpec, Scenario,
    fault::{AFTER, DURING, REPEAT},
    types::MAX_FAULT_REPEAT,
};

/// The JSON Schema of a scenario file: derived from [`Scenario`], so that its descriptions are the doc comments of the types.
///
/// Draft 7, which every editor reads. It cannot say how long a duration may be, nor compare one key with another: `comeback check` can.
#[must_use]
pub fn schema() -> Schema {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Scenario>();
    schema.insert("title".into(), "A scenario of comeback".into());
    for name in FaultSpec::all().iter().filter_map(definition_of) {
        let at = format!("/definitions/{name}/properties");
        // A fault without parameters of its own has no properties yet.
        let definition =
            schema.pointer_mut(&format!("/definitions/{name}")).and_then(Value::as_object_mut).expect("every fault is defined");
        definition.entry("properties").or_insert_with(|| json!({}));
        let properties = schema.pointer_mut(&at).and_then(Value::as_object_mut).expect("it was just made");
        for (key, property) in when() {
            properties.insert(key.to_owned(), property);
        }
    }
    schema
}

/// The keys that every fault takes beside its own: see [`super::Injection`].
fn when() -> [(&'static str, Value); 3] {
    let names: Vec<_> = FaultSpec::all().iter().map(FaultSpec::name).collect();
    let after = After::json_schema(&mut SchemaSettings::draft07().into_generator());
    [
        (
            AFTER,
            described(
                after.to_value(),
                "What is waited for since the call of the fault before: a time, or what is seen. Default: until the database is back.",
            ),
        ),
        (DURING, described(json!({ "type": "string", "enum": names }), "An earlier fault: this one comes while that one is in force.")),
        (
            REPEAT,
            described(
                json!({ "type": "integer", "minimum": 1, "maximum": MAX_FAULT_REPEAT }),
                "How often it is injected within a trial, one after the other.",
            ),
        ),
    ]
}

fn described(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}

/// The name of the definition of a fault's parameters: that of its type.
fn definition_of(fault: &FaultSpec) -> Option<String> {
    let mut letters = fault.name().chars();
    Some(letters.next()?.to_ascii_uppercase().to_string() + letters.as_str())
}

/// The key of a scenario below which `key` belongs: `load` for `writers`. `None`: it belongs nowhere, or at the top.
pub(super) fn home(key: &str) -> Option<String> {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(schema);
    let schema = &*SCHEMA;
    let top = schema.pointer("/properties")?.as_object()?;
    let below = |property: &Value| -> Option<bool> {
        // Draft 7 ignores what stands beside a reference, so it is wrapped when it has a description.
        let reference = property.get("$ref").or_else(|| property.pointer("/allOf/0/$ref"))?.as_str()?;
        Some(schema.pointer(reference.strip_prefix('#')?)?.get("properties")?.as_object()?.contains_key(key))
    };
    top.iter().find(|(_, property)| below(property) == Some(true)).map(|(name, _)| name.clone())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("writers", Some("load"))]
    #[case("timeout", Some("probe"))]
    #[case("recoveryWithin", Some("expect"))]
    #[case("name", None)]
    #[case("nothing", None)]
    fn a_key_below_another_has_a_home(#[case] key: &str, #[case] expected: Option<&str>) {
        assert_eq!(home(key).as_deref(), expected);
    }
}
