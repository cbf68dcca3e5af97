//! The scenario and its parts.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use super::{FaultSpec, HumanDuration};

/// A scenario: faults to apply and what to expect of the recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// The version of the format; 1 is the only one.
    pub version: u32,
    /// What it is called in every report: lower-case letters, digits and dashes.
    pub name: String,
    /// A sentence for the reader of the report.
    #[serde(default)]
    pub about: Option<String>,
    /// Words to select it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What is written while the fault happens.
    #[serde(default)]
    pub load: Load,
    /// How the outage is looked for.
    #[serde(default)]
    pub probe: Probe,
    /// What is broken, in this order. Empty: the control trial, which demands that nothing happens.
    pub faults: Vec<FaultSpec>,
    /// What must hold.
    #[serde(default)]
    pub expect: Expect,
    /// How many trials of it a run makes.
    #[serde(default = "one")]
    pub repeat: NonZeroU32,
    /// How long every probe must succeed before the first fault. Default: the platform's.
    #[serde(default)]
    pub steady_for: Option<HumanDuration>,
    /// How long every probe must succeed before the recovery counts as stable. Default: the platform's.
    #[serde(default)]
    pub stable_for: Option<HumanDuration>,
    /// How long after the last fault the run waits for a stable recovery. Default: the platform's.
    #[serde(default)]
    pub give_up_after: Option<HumanDuration>,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// The rows that are written through the service address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Load {
    /// How many writers keep a connection each and write one row after the other. 0 to 64.
    pub writers: u32,
    /// How many rows they aim at together.
    pub rate: Rate,
    /// How many rows are written, as fast as it goes, before the first fault.
    pub rows_before: u64,
}

impl Default for Load {
    fn default() -> Self {
        Self { writers: 4, rate: Rate { per_second: 100 }, rows_before: 1_000 }
    }
}

/// So many a second, written `200/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many a second; more than 0.
    pub per_second: u32,
}

impl Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}/s", self.per_second))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let per_second = text.strip_suffix("/s").and_then(|n| n.trim().parse().ok()).filter(|n| *n > 0);
        per_second
            .map(|per_second| Self { per_second })
            .ok_or_else(|| serde::de::Error::custom(format_args!("`{text}` is not a rate such as `200/s`")))
    }
}

/// The open-loop stream of writes that finds the outage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Probe {
    /// An attempt starts this often, whatever happened to the one before.
    pub every: HumanDuration,
    /// An attempt (connect, log in, write, close) that takes longer has failed.
    pub timeout: HumanDuration,
}

impl Default for Probe {
    fn default() -> Self {
        Self { every: HumanDuration::from_millis(100), timeout: HumanDuration::from_millis(1_000) }
    }
}

/// What must hold for the scenario to pass, beside the laws that always hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Expect {
    /// The longest recovery time, for all platforms or for each.
    pub recovery_within: Option<Limit>,
    /// How many acknowledged rows may be lost; 0 unless a scenario studies loss.
    pub lost_rows: u64,
    /// Where the database must be afterwards.
    pub moved_to: Option<MovedTo>,
    /// What must be true of the service address. It is demanded whether or not it is written.
    pub service_address: ServiceAddress,
}

/// A duration for all platforms, or one for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Limit {
    /// The same everywhere.
    Everywhere(HumanDuration),
    /// Platform name to duration; a platform that is not named has no limit.
    PerPlatform(std::collections::BTreeMap<String, HumanDuration>),
}

impl Limit {
    /// The limit that holds on `platform`, if one does.
    #[must_use]
    pub fn on(&self, platform: &str) -> Option<Duration> {
        match self {
            Self::Everywhere(limit) => Some(limit.0),
            Self::PerPlatform(limits) => limits.get(platform).map(|limit| limit.0),
        }
    }
}

/// Where the database must be after the recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MovedTo {
    /// On another node than before.
    OtherNode,
    /// On the node where it was.
    SameNode,
}

/// What must be true of the service address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServiceAddress {
    /// The same object, address and port before and after.
    #[default]
    Unchanged,
}
