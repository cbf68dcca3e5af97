//! The JSON Schema of a scenario, for editors.

use schemars::{Schema, generate::SchemaSettings};

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
