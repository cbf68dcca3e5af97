//! `result.json`: all that a run found, for programs.
//!
//! Its form is `reports/result.schema.json`, made from the types by [`schema`]. A reader checks `schema` first: it changes when an old
//! reader would be misled, not when a key is added. What is not known is `null`, never 0 and never left out.

use schemars::{Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::Value;

use crate::result::RunResult;

/// The document: pretty, with a newline at the end.
#[must_use]
pub fn render(result: &RunResult) -> String {
    pretty(result)
}

/// The JSON Schema (draft 2020-12) of the document, with a newline at the end.
#[must_use]
pub fn schema() -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize().with_transform(RecursiveTransform(in_the_words_of_json));
    pretty(&settings.into_generator().into_root_schema_for::<RunResult>())
}

/// The descriptions are the comments of the types: what is `None` there is `null` here, and links lead nowhere.
fn in_the_words_of_json(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace("`None`", "`null`").replace("[`", "`").replace("`]", "`");
    }
}

fn pretty(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("results have string keys and no failing serializers");
    text.push('\n');
    text
}
