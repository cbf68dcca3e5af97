//! Faults of the way to the database.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, de::Error as _};

use super::super::{HumanDuration, Limit};

/// Drops everything that the database's pod sends and gets, and ends that afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IsolatePod {
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

/// Holds back what goes to the database's pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DelayNetwork {
    /// For how long.
    pub delay: HumanDuration,
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

impl Default for DelayNetwork {
    fn default() -> Self {
        Self { delay: HumanDuration::from_millis(100), lasts: None }
    }
}

/// Loses a part of what goes to the database's pod. TCP sends it again, so it shows as time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LossyNetwork {
    /// How much, from `1%` to `100%`.
    pub loss: Percent,
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

impl Default for LossyNetwork {
    fn default() -> Self {
        Self { loss: Percent(20), lasts: None }
    }
}

/// Answers whatever clients send to the database's pod with a reset, for two seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResetConnections {}

/// A part of a hundred, written `20%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(
    /// From 1 to 100.
    pub u8,
);

impl Percent {
    /// Reads it as it is written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('%')?;
        let number = digits.parse().ok().filter(|number| (1..=100).contains(number))?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(Self(number)).filter(|_| !digits.starts_with('0'))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl Serialize for Percent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format_args!("`{text}` is not from `1%` to `100%`")))
    }
}

impl JsonSchema for Percent {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([1-9][0-9]?|100)%$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_as_it_is_written() {
        for number in [1, 20, 100] {
            assert_eq!(Percent::parse(&Percent(number).to_string()), Some(Percent(number)));
        }
        for text in ["0%", "101%", "020%", "+5%", "5", "%", "5 %", "1.5%"] {
            assert_eq!(Percent::parse(text), None, "{text}");
        }
    }
}
