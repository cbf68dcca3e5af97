//! Faults of what looks after the database.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::Limit;

/// Stops the API server, and starts it again afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StopApiServer {
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

/// Stops a controller, and starts it again afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StopController {
    /// Which.
    pub controller: Controller,
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

/// A part of the control plane beside the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Controller {
    /// What makes pods, watches nodes, keeps endpoints, attaches volumes.
    #[default]
    ControllerManager,
    /// What gives pods their nodes.
    Scheduler,
}

impl Controller {
    /// Every one there is.
    pub const ALL: [Self; 2] = [Self::ControllerManager, Self::Scheduler];

    /// Its name as it is written in a scenario file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ControllerManager => "controllerManager",
            Self::Scheduler => "scheduler",
        }
    }
}

/// Changes the selector of the service in front of the database so that it matches no pod, and back afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BreakEndpoints {
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}
