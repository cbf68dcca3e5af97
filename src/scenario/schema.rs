//! The JSON Schema of a scenario, for editors.

use std::sync::LazyLock;

use schemars::{Schema, generate::SchemaSettings};
use serde_json::Value;

use super::Scenario;

/// The JSON Schema of a scenario file: derived from [`Scenario`], so that its descriptions are the doc comments of the types.
///
/// Draft 7, which every editor reads. It cannot say how long a duration may be, nor compare one key with another: `comeback check` can.
#[must_use]
pub fn schema() -> Schema {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Scenario>();
    schema.insert("title".into(), "A scenario of comeback".into());
    schema
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
