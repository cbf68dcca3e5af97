//! A fault of the list, and when it comes.

use std::{borrow::Cow, num::NonZeroU32};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Value};

use super::{super::HumanDuration, FaultSpec};

/// The keys that every fault takes beside its own parameters.
pub(in crate::scenario) const AFTER: &str = "after";
/// As [`AFTER`].
pub(in crate::scenario) const DURING: &str = "during";
/// As [`AFTER`].
pub(in crate::scenario) const REPEAT: &str = "repeat";

/// A fault, and when it is injected. Unless it says otherwise it comes when the database is back from the fault before it.
///
/// In the file `after`, `during` and `repeat` stand among the parameters of the fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    /// Which fault.
    pub fault: FaultSpec,
    /// What is waited for since the call of the fault before it.
    pub after: Option<After>,
    /// The name of an earlier fault: it comes as soon as that one is in force, and before that one is undone.
    pub during: Option<String>,
    /// How often it is injected, one after the other.
    pub repeat: NonZeroU32,
}

/// What is waited for before a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// So much time since the call of the fault before it.
    Elapsed(HumanDuration),
    /// Something that is seen in the cluster since then.
    Seen(Cue),
}

/// Something that is seen in the cluster after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cue {
    /// A new container of the database runs, and no write was acknowledged by it yet.
    Recovering,
    /// The pod that was hit is marked for deletion.
    PodDeleted,
    /// The pod that was hit is gone: its volume is free.
    PodGone,
    /// The node that was hit is not ready.
    NodeNotReady,
}

impl Cue {
    /// Every cue there is.
    pub const ALL: [Self; 4] = [Self::Recovering, Self::PodDeleted, Self::PodGone, Self::NodeNotReady];

    /// Its name as it is written in a scenario file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::PodDeleted => "podDeleted",
            Self::PodGone => "podGone",
            Self::NodeNotReady => "nodeNotReady",
        }
    }
}

impl Serialize for After {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Elapsed(time) => time.serialize(serializer),
            Self::Seen(cue) => serializer.serialize_str(cue.name()),
        }
    }
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(cue) = Cue::ALL.into_iter().find(|cue| cue.name() == text) {
            return Ok(Self::Seen(cue));
        }
        text.parse().map(Self::Elapsed).map_err(|_| D::Error::custom(format_args!("`{text}` is neither a duration nor a cue")))
    }
}

impl JsonSchema for After {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "After".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let time = HumanDuration::json_schema(generator);
        json_schema!({ "anyOf": [time, { "type": "string", "enum": Cue::ALL.map(Cue::name) }] })
    }
}

impl From<FaultSpec> for Injection {
    fn from(fault: FaultSpec) -> Self {
        Self { fault, after: None, during: None, repeat: NonZeroU32::MIN }
    }
}

impl Serialize for Injection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let mut form = serde_json::to_value(&self.fault).map_err(S::Error::custom)?;
        let parameters = form.get_mut(self.fault.name()).and_then(Value::as_object_mut);
        let parameters = parameters.ok_or_else(|| S::Error::custom("the parameters of a fault are a map"))?;
        let of = |value: Result<Value, serde_json::Error>| value.map_err(S::Error::custom);
        if let Some(after) = &self.after {
            parameters.insert(AFTER.to_owned(), of(serde_json::to_value(after))?);
        }
        if let Some(during) = &self.during {
            parameters.insert(DURING.to_owned(), during.as_str().into());
        }
        if self.repeat > NonZeroU32::MIN {
            parameters.insert(REPEAT.to_owned(), self.repeat.get().into());
        }
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Injection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut form = Map::deserialize(deserializer)?;
        let mut taken = |key: &str| form.values_mut().find_map(|parameters| parameters.as_object_mut()?.remove(key));
        let (after, during, repeat) = (taken(AFTER), taken(DURING), taken(REPEAT));
        let fault = serde_json::from_value(Value::Object(form)).map_err(D::Error::custom)?;
        let after = after.map(serde_json::from_value).transpose().map_err(D::Error::custom)?;
        let during = during.map(serde_json::from_value).transpose().map_err(D::Error::custom)?;
        let repeat = repeat.map(serde_json::from_value).transpose().map_err(D::Error::custom)?;
        Ok(Self { fault, after, during, repeat: repeat.unwrap_or(NonZeroU32::MIN) })
    }
}

impl JsonSchema for Injection {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Injection".into()
    }

    /// That of the fault; [`super::super::schema`] adds the keys that all faults take.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<FaultSpec>()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::KillProcess, *};

    #[test]
    fn when_it_comes_stands_among_the_parameters_of_the_fault() {
        let injection = Injection {
            after: Some(After::Seen(Cue::Recovering)),
            during: Some("drainNode".into()),
            repeat: NonZeroU32::new(3).unwrap(),
            ..FaultSpec::KillProcess(KillProcess::default()).into()
        };
        let text = serde_json::to_value(&injection).unwrap();
        assert_eq!(text["killProcess"]["after"], "recovering");
        assert_eq!((&text["killProcess"]["during"], &text["killProcess"]["repeat"]), (&json!("drainNode"), &json!(3)));
        assert_eq!(serde_json::from_value::<Injection>(text).unwrap(), injection);
    }

    #[test]
    fn a_fault_without_them_is_written_as_it_always_was() {
        let injection = Injection::from(FaultSpec::KillProcess(KillProcess::default()));
        let text = serde_json::to_value(&injection).unwrap();
        assert_eq!(text, json!({"killProcess": {"process": "engine", "signal": "SIGKILL"}}));
        assert_eq!(serde_json::from_value::<Injection>(text).unwrap(), injection);
    }
}
