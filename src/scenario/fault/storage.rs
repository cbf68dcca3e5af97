//! Faults of the database's volume.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{HumanDuration, Limit};

/// Fills the database's volume, and empties it again afterwards. Only a volume that has a size of its own is ever filled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FillVolume {
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

/// Makes flushes to the database's volume take longer: each of them, or on kind at least half.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SlowVolume {
    /// By how much.
    pub delay: HumanDuration,
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

impl Default for SlowVolume {
    fn default() -> Self {
        Self { delay: HumanDuration::from_millis(200), lasts: None }
    }
}

/// Makes the database's volume impossible to attach or mount anew; where it is in use it stays so. Shows only when the pod has to start elsewhere or anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FailAttach {
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}
