//! Durations as people write them: `100ms`, `1m 30s`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the JSON Schema can say about the text of a duration: whole or decimal numbers, each with a unit.
///
/// The units are humantime's. A schema cannot say how long the whole is; [`parse`](super::parse) does.
pub(super) const DURATION_PATTERN: &str = "^ *([0-9]+(\\.[0-9]+)? *(nanos|nsec|ns|usec|us|\u{b5}s|millis|msec|ms|seconds|second|secs|sec|s|\
                                    minutes|minute|mins|min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|\
                                    months|month|M|years|year|yrs|yr|y) *)+$";

/// A text longer than this is not a duration that anybody meant, nor is a number with more digits than [`MAX_DIGITS`].
const MAX_TEXT: usize = 64;

/// The sum of all terms that fit into [`MAX_TEXT`] stays far from the end of [`Duration`]: humantime panics there instead of failing.
const MAX_DIGITS: usize = 9;

/// A length of time, written as `humantime` reads it (`250ms`, `90s`, `1m 30s`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
}

impl FromStr for HumanDuration {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let longest_number = text.split(|c: char| !c.is_ascii_digit() && !c.is_whitespace()).map(str::len).max();
        if text.len() > MAX_TEXT || longest_number > Some(MAX_DIGITS) {
            return Err(humantime::DurationError::NumberOverflow);
        }
        humantime::parse_duration(text).map(Self)
    }
}

impl JsonSchema for HumanDuration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HumanDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": MAX_TEXT, "pattern": DURATION_PATTERN })
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::milliseconds("250ms", 250)]
    #[case::seconds("90s", 90_000)]
    #[case::two_terms("1m 30s", 90_000)]
    #[case::decimal("1.5s", 1_500)]
    #[case::zero("0s", 0)]
    fn a_duration_reads_as_people_write_it(#[case] text: &str, #[case] ms: u64) {
        assert_eq!(text.parse(), Ok(HumanDuration::from_millis(ms)));
    }

    #[rstest]
    #[case::empty("")]
    #[case::no_unit("10")]
    #[case::negative("-5s")]
    #[case::unknown_unit("5 parsecs")]
    #[case::too_many_digits("18446744073709551615s")]
    #[case::overflow_by_carry("18446744073709551615s 1000000000ns")]
    #[case::too_long("1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s")]
    fn what_is_not_a_duration_is_an_error_and_no_panic(#[case] text: &str) {
        text.parse::<HumanDuration>().expect_err("it is not a duration");
    }

    proptest! {
        #[test]
        fn a_duration_reads_back_as_it_is_shown(ms in 0_u64..1_000_000_000) {
            let duration = HumanDuration::from_millis(ms);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9. a-zA-Z-]{0,80}|\\PC{0,80}") {
            let _ = text.parse::<HumanDuration>();
        }
    }
}
