//! The scenario and its parts.

use std::{borrow::Cow, collections::BTreeMap, num::NonZeroU32, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{HumanDuration, Injection, duration::DURATION_PATTERN};

/// The version of the format that this program reads.
pub(super) const VERSION: u32 = 1;

/// What the name of a scenario and a tag look like.
pub(super) const NAME_PATTERN: &str = "^[a-z0-9-]{1,63}$";

/// The longest `about`, in characters.
pub(super) const MAX_ABOUT: usize = 500;

/// What an `about` looks like: one line, without control characters; a block of YAML ends with a line break.
pub(super) const ABOUT_PATTERN: &str = r"^[^\x00-\x1f\x7f-\x9f]+\n*$";

/// The most tags of a scenario.
pub(super) const MAX_TAGS: usize = 32;

/// The most faults of a scenario.
pub(super) const MAX_FAULTS: usize = 32;

/// How often one fault may be injected within a trial.
pub(super) const MAX_FAULT_REPEAT: u32 = 100;

/// The most trials of a scenario.
pub(super) const MAX_REPEAT: u32 = 10_000;

/// The most writers.
pub(super) const MAX_WRITERS: u32 = 64;

/// The most rows a second.
pub(super) const MAX_RATE: u32 = 1_000_000;

/// What a rate looks like.
pub(super) const RATE_PATTERN: &str = "^([1-9][0-9]{0,5}|1000000)/s$";

/// The most rows before the first fault.
pub(super) const MAX_ROWS_BEFORE: u64 = 1_000_000_000;

/// The most rows that a scenario may allow to be lost.
pub(super) const MAX_LOST_ROWS: u64 = 1_000_000_000_000;

/// The longest duration that any key takes.
pub(super) const MAX_DURATION: Duration = Duration::from_hours(24);

/// The shortest time between two attempts of a probe: more would measure the machine that probes.
pub(super) const MIN_EVERY: Duration = Duration::from_millis(1);

/// The longest time between two attempts of a probe, and the longest that one may take.
pub(super) const MAX_PROBE: Duration = Duration::from_mins(1);

/// The most attempts of a probe that can be under way at once: `timeout` divided by `every`.
pub(super) const MAX_IN_FLIGHT: u32 = 1_000;

/// The platforms that `recoveryWithin` can name.
pub(super) const PLATFORMS: [&str; 4] = ["sandbox", "kind", "aks", "cluster"];

/// A scenario: faults to apply and what to expect of the recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// The version of the format; 1 is the only one.
    #[schemars(extend("const" = VERSION))]
    pub version: u32,
    /// What it is called in every report: lower-case letters, digits and dashes.
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub name: String,
    /// A sentence for the reader of the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = MAX_ABOUT), regex(pattern = ABOUT_PATTERN))]
    pub about: Option<String>,
    /// Words to select it by.
    #[serde(default)]
    #[schemars(length(max = MAX_TAGS), inner(regex(pattern = NAME_PATTERN)), extend("uniqueItems" = true))]
    pub tags: Vec<String>,
    /// Which shape of the workload is broken.
    #[serde(default)]
    pub target: TargetShape,
    /// What is written while the fault happens.
    #[serde(default)]
    pub load: Load,
    /// How the outage is looked for.
    #[serde(default)]
    pub probe: Probe,
    /// What is broken, in this order. Empty: the control trial, which demands that nothing happens.
    #[schemars(length(max = MAX_FAULTS))]
    pub faults: Vec<Injection>,
    /// What must hold.
    #[serde(default)]
    pub expect: Expect,
    /// How many trials of it a run makes.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = MAX_REPEAT))]
    pub repeat: NonZeroU32,
    /// How long every probe must succeed before the first fault. Default: the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "some_time")]
    pub steady_for: Option<HumanDuration>,
    /// How long every probe must succeed before the recovery counts as stable. Default: the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "some_time")]
    pub stable_for: Option<HumanDuration>,
    /// How long after the last fault the run waits for a stable recovery. Default: the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "some_time")]
    pub give_up_after: Option<HumanDuration>,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// The shape of the workload under test. They recover differently, above all when a node dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TargetShape {
    /// A `Deployment` of one replica that is recreated, with a readiness probe.
    #[default]
    Deployment,
    /// A `StatefulSet` of one replica: its pod is replaced only when it is certain that the old one has ended.
    StatefulSet,
    /// The manifest of Microsoft's guide as it stands: a `Deployment` that is rolled, without a probe.
    Guide,
}

impl TargetShape {
    /// Every shape there is.
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::Guide];

    /// Its name as it is written in a scenario file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulSet",
            Self::Guide => "guide",
        }
    }
}

/// The rows that are written through the service address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Load {
    /// How many writers keep a connection each and write one row after the other. 0 to 64.
    #[schemars(range(max = MAX_WRITERS))]
    pub writers: u32,
    /// How many rows they aim at together.
    pub rate: Rate,
    /// How many rows are written, as fast as it goes, before the first fault.
    #[schemars(range(max = MAX_ROWS_BEFORE))]
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

impl JsonSchema for Rate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": RATE_PATTERN })
    }
}

/// The open-loop stream of writes that finds the outage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Probe {
    /// An attempt starts this often, whatever happened to the one before.
    #[schemars(schema_with = "some_time")]
    pub every: HumanDuration,
    /// An attempt (connect, log in, write) that takes longer has failed.
    #[schemars(schema_with = "some_time")]
    pub timeout: HumanDuration,
}

impl Default for Probe {
    fn default() -> Self {
        Self { every: HumanDuration::from_millis(100), timeout: HumanDuration::from_millis(1_000) }
    }
}

/// What must hold for the scenario to pass, beside the laws that always hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Expect {
    /// The longest recovery time, for all platforms or for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub recovery_within: Option<Limit>,
    /// How many acknowledged rows may be lost; 0 unless a scenario studies loss.
    #[schemars(range(max = MAX_LOST_ROWS))]
    pub lost_rows: u64,
    /// Where the database must be afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MovedTo")]
    pub moved_to: Option<MovedTo>,
    /// What must be true of the service address. It is demanded whether or not it is written.
    pub service_address: ServiceAddress,
}

/// A duration for all platforms, or one for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Limit {
    /// The same everywhere.
    Everywhere(#[schemars(schema_with = "some_time")] HumanDuration),
    /// Platform name to duration; a platform that is not named has no limit.
    PerPlatform(#[schemars(schema_with = "time_per_platform")] BTreeMap<String, HumanDuration>),
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MovedTo {
    /// On another node than before.
    OtherNode,
    /// On the node where it was.
    SameNode,
}

impl MovedTo {
    /// Every place there is.
    pub const ALL: [Self; 2] = [Self::OtherNode, Self::SameNode];
}

/// What must be true of the service address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ServiceAddress {
    /// The same object, address and port before and after.
    #[default]
    Unchanged,
}

impl ServiceAddress {
    /// All that can be demanded of it.
    pub const ALL: [Self; 1] = [Self::Unchanged];
}

/// The schema of a duration that is more than nothing.
fn some_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 64, "allOf": [{ "pattern": DURATION_PATTERN }, { "pattern": "[1-9]" }] })
}

/// The schema of a map from the name of a platform to a duration.
fn time_per_platform(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": { "enum": PLATFORMS },
        "additionalProperties": some_time(generator),
    })
}
