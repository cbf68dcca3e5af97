//! Conversions between types: `CAST`, `CONVERT`, and the silent ones of assignments and comparisons.

use std::fmt::Write as _;

use chrono::{NaiveDateTime, TimeDelta, Timelike};
use rusqlite::types::Value;

use super::{
    codepage,
    errors::{self, SqlError},
    moment,
    types::{Family, Length, SqlType},
};

/// A value of type `from`, as type `to`; `style` is `CONVERT`'s.
pub(crate) fn convert(value: Value, from: SqlType, to: SqlType, style: i64) -> Result<Value, SqlError> {
    if matches!(value, Value::Null) {
        return Ok(Value::Null);
    }
    match to.family() {
        Family::Text => to_text(value, from, to, style),
        Family::Number => to_number(&value, from, to),
        Family::Moment => to_moment(&value, from, to),
        Family::Bytes => to_bytes(value, from, to, style),
        Family::Guid => to_guid(&value, from),
    }
}

fn to_text(value: Value, from: SqlType, to: SqlType, style: i64) -> Result<Value, SqlError> {
    let limit = match to.length() {
        Some(Length::Of(length)) => usize::from(length),
        _ => usize::MAX,
    };
    let text = match value {
        Value::Text(text) if from.family() == Family::Moment => {
            let at = moment::parse(&text).ok_or_else(errors::not_a_date)?;
            moment::styled(at, from, style).ok_or_else(|| errors::unknown_style(style, from.name()))?
        }
        Value::Text(text) => text,
        Value::Integer(number) => {
            let text = match from {
                SqlType::Decimal { scale, .. } if scale > 0 => format!("{number}.{}", "0".repeat(usize::from(scale))),
                _ => number.to_string(),
            };
            if text.len() > limit {
                // SQL Server shows a star for a number that does not fit, but only in the narrow types.
                return if to.is_national() { Err(errors::overflow(to.name())) } else { Ok(Value::Text("*".to_owned())) };
            }
            text
        }
        Value::Real(number) => {
            let text = match from {
                SqlType::Decimal { scale, .. } => format!("{number:.*}", usize::from(scale)),
                _ => number.to_string(),
            };
            if text.len() > limit {
                return Err(errors::overflow(to.name()));
            }
            text
        }
        Value::Blob(bytes) if style == 1 => format!("0x{}", hex(&bytes)),
        Value::Blob(bytes) if style == 2 => hex(&bytes),
        Value::Blob(bytes) if to.is_national() => super::types::utf16(&bytes),
        Value::Blob(bytes) => codepage::decode(&bytes),
        Value::Null => return Ok(Value::Null),
    };
    let mut text = if text.len() > limit { cut(&text, to, limit) } else { text };
    if let SqlType::Char(length) | SqlType::NChar(length) = to {
        let missing = usize::from(length).saturating_sub(text.chars().map(|c| to.width(c)).sum());
        text.extend(std::iter::repeat_n(' ', missing));
    }
    Ok(Value::Text(text))
}

/// The beginning of a text, at most `limit` long; no character is cut in two.
fn cut(text: &str, to: SqlType, limit: usize) -> String {
    let mut length = 0;
    text.chars()
        .take_while(|&character| {
            length += to.width(character);
            length <= limit
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02X}").expect("a string takes everything");
        text
    })
}

fn to_number(value: &Value, from: SqlType, to: SqlType) -> Result<Value, SqlError> {
    if matches!(from.family(), Family::Moment | Family::Guid) {
        return Err(errors::conversion_not_allowed(from.name(), to.name()));
    }
    match to {
        SqlType::Bit => {
            let on = match value {
                Value::Text(text) if text.eq_ignore_ascii_case("true") => true,
                Value::Text(text) if text.eq_ignore_ascii_case("false") => false,
                other => whole(other, from, to)? != 0,
            };
            Ok(Value::Integer(on.into()))
        }
        SqlType::Real | SqlType::Float => Ok(Value::Real(match value {
            Value::Integer(number) => *number as f64,
            Value::Real(number) => *number,
            Value::Text(text) => finite(text).ok_or_else(|| errors::cannot_convert(from.name(), to.name()))?,
            _ => return Err(errors::conversion_not_allowed(from.name(), to.name())),
        })),
        SqlType::Decimal { precision, scale } => {
            let number = match value {
                Value::Integer(number) => return fits(*number, precision, scale),
                Value::Real(number) => *number,
                Value::Text(text) => match text.trim().parse::<i64>() {
                    Ok(number) => return fits(number, precision, scale),
                    Err(_) => finite(text).ok_or_else(|| errors::cannot_convert(from.name(), "numeric"))?,
                },
                _ => return Err(errors::conversion_not_allowed(from.name(), to.name())),
            };
            let unit = 10_f64.powi(i32::from(scale));
            let rounded = (number * unit).round() / unit;
            if rounded.abs() >= 10_f64.powi(i32::from(precision - scale)) {
                return Err(errors::overflow("numeric"));
            }
            Ok(Value::Real(rounded))
        }
        _ => {
            let number = whole(value, from, to)?;
            let (low, high) = to.integer_range().expect("the other numbers are handled above");
            if (low..=high).contains(&number) { Ok(Value::Integer(number)) } else { Err(errors::overflow(to.name())) }
        }
    }
}

/// The number that a text is. What Rust reads beyond that (`nan`, `inf`, more than a number can hold) is none.
fn finite(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

fn fits(number: i64, precision: u8, scale: u8) -> Result<Value, SqlError> {
    let limit = 10_u128.checked_pow(u32::from(precision - scale)).unwrap_or(u128::MAX);
    if u128::from(number.unsigned_abs()) < limit { Ok(Value::Integer(number)) } else { Err(errors::overflow("numeric")) }
}

fn whole(value: &Value, from: SqlType, to: SqlType) -> Result<i64, SqlError> {
    match value {
        Value::Integer(number) => Ok(*number),
        #[expect(clippy::cast_possible_truncation, reason = "the range is checked; the fraction is cut off, as SQL Server does it")]
        Value::Real(number) if number.abs() < 9.2e18 => Ok(*number as i64),
        Value::Real(_) => Err(errors::overflow(to.name())),
        Value::Text(text) if text.trim().is_empty() => Ok(0),
        Value::Text(text) => text.trim().parse().map_err(|_| errors::conversion_failed(from.name(), text, to.name())),
        Value::Blob(bytes) => Ok(bytes.iter().rev().take(8).rev().fold(0, |number, byte| (number << 8) | i64::from(*byte))),
        Value::Null => Ok(0),
    }
}

fn to_moment(value: &Value, from: SqlType, to: SqlType) -> Result<Value, SqlError> {
    let at = match value {
        Value::Text(text) if matches!(from.family(), Family::Text | Family::Moment) => {
            moment::parse(text).ok_or_else(errors::not_a_date)?
        }
        Value::Integer(days) if to == SqlType::DateTime => moment::from_ticks((0, 0))
            .checked_add_signed(TimeDelta::try_days(*days).ok_or_else(|| errors::overflow("datetime"))?)
            .ok_or_else(|| errors::overflow("datetime"))?,
        _ => return Err(errors::conversion_not_allowed(from.name(), to.name())),
    };
    Ok(Value::Text(moment::store(at, to)))
}

fn to_bytes(value: Value, from: SqlType, to: SqlType, style: i64) -> Result<Value, SqlError> {
    let mut bytes = match value {
        Value::Blob(bytes) => bytes,
        Value::Text(text) if style == 1 && from.is_text() => {
            let digits = text.strip_prefix("0x").unwrap_or(&text);
            unhex(digits).ok_or_else(|| errors::cannot_convert(from.name(), to.name()))?
        }
        Value::Text(text) if from.is_national() => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Value::Text(text) => {
            let mut bytes = Vec::new();
            codepage::encode(&text, &mut bytes);
            bytes
        }
        Value::Integer(number) => {
            let size = match from {
                SqlType::Bit | SqlType::TinyInt => 1,
                SqlType::SmallInt => 2,
                SqlType::Int => 4,
                _ => 8,
            };
            number.to_be_bytes()[8 - size..].to_vec()
        }
        _ => return Err(errors::conversion_not_allowed(from.name(), to.name())),
    };
    if let Some(Length::Of(length)) = to.length() {
        bytes.truncate(usize::from(length));
    }
    if let SqlType::Binary(length) = to {
        bytes.resize(usize::from(length), 0);
    }
    Ok(Value::Blob(bytes))
}

/// The bytes of hexadecimal digits.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() };
    digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn to_guid(value: &Value, from: SqlType) -> Result<Value, SqlError> {
    match value {
        Value::Text(text) => uuid::Uuid::try_parse(text.trim())
            .map(|id| Value::Text(id.to_string().to_uppercase()))
            .map_err(|_| errors::not_a_uniqueidentifier()),
        Value::Blob(bytes) if bytes.len() == 16 => {
            let bytes = <[u8; 16]>::try_from(bytes.as_slice()).expect("it has sixteen bytes");
            Ok(Value::Text(uuid::Uuid::from_bytes_le(bytes).to_string().to_uppercase()))
        }
        _ => Err(errors::conversion_not_allowed(from.name(), "uniqueidentifier")),
    }
}

/// A part of a moment, as `DATEADD`, `DATEDIFF` and `DATEPART` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatePart {
    /// `year`
    Year,
    /// `month`
    Month,
    /// `day`
    Day,
    /// `hour`
    Hour,
    /// `minute`
    Minute,
    /// `second`
    Second,
    /// `millisecond`
    Millisecond,
    /// `microsecond`
    Microsecond,
}

impl DatePart {
    /// The part that a word names.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "year" | "yy" | "yyyy" => Self::Year,
            "month" | "mm" | "m" => Self::Month,
            "day" | "dd" | "d" => Self::Day,
            "hour" | "hh" => Self::Hour,
            "minute" | "mi" | "n" => Self::Minute,
            "second" | "ss" | "s" => Self::Second,
            "millisecond" | "ms" => Self::Millisecond,
            "microsecond" | "mcs" => Self::Microsecond,
            _ => return None,
        })
    }

    const fn micros(self) -> i64 {
        match self {
            Self::Microsecond => 1,
            Self::Millisecond => 1_000,
            Self::Second => 1_000_000,
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
            Self::Year | Self::Month | Self::Day => 86_400_000_000,
        }
    }

    /// The part of `at`.
    pub(crate) fn of(self, at: NaiveDateTime) -> i64 {
        use chrono::Datelike;
        match self {
            Self::Year => at.year().into(),
            Self::Month => at.month().into(),
            Self::Day => at.day().into(),
            Self::Hour => at.hour().into(),
            Self::Minute => at.minute().into(),
            Self::Second => at.second().into(),
            Self::Millisecond => i64::from(at.nanosecond() / 1_000_000),
            Self::Microsecond => i64::from(at.nanosecond() / 1_000),
        }
    }

    /// How many boundaries of this part lie between two moments.
    pub(crate) fn between(self, from: NaiveDateTime, to: NaiveDateTime) -> i64 {
        use chrono::Datelike;
        let boundary = |at: NaiveDateTime| match self {
            Self::Year => at.year().into(),
            Self::Month => i64::from(at.year()) * 12 + i64::from(at.month()),
            _ => at.and_utc().timestamp_micros().div_euclid(self.micros()),
        };
        boundary(to) - boundary(from)
    }

    /// The moment so many parts later.
    pub(crate) fn add(self, at: NaiveDateTime, count: i64) -> Option<NaiveDateTime> {
        use chrono::Months;
        let months = match self {
            Self::Year => count.checked_mul(12)?,
            Self::Month => count,
            _ => return at.checked_add_signed(TimeDelta::microseconds(count.checked_mul(self.micros())?)),
        };
        let far = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
        if months < 0 { at.checked_sub_months(far) } else { at.checked_add_months(far) }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TEXT: SqlType = SqlType::VarChar(Length::Of(40));

    #[rstest]
    #[case::number_from_text(Value::Text(" 42 ".into()), TEXT, SqlType::Int, Value::Integer(42))]
    #[case::a_fraction_is_cut_off(Value::Real(1.9), SqlType::Float, SqlType::Int, Value::Integer(1))]
    #[case::text_is_cut_off(Value::Text("abcdef".into()), TEXT, SqlType::VarChar(Length::Of(3)), Value::Text("abc".into()))]
    #[case::unicode_is_cut_by_units(Value::Text("a😀😁".into()), TEXT, SqlType::NVarChar(Length::Of(4)), Value::Text("a😀".into()))]
    #[case::char_is_padded(Value::Text("a".into()), TEXT, SqlType::Char(3), Value::Text("a  ".into()))]
    #[case::a_number_that_does_not_fit_is_a_star(Value::Integer(1234), SqlType::Int, SqlType::VarChar(Length::Of(3)), Value::Text("*".into()))]
    #[case::bit(Value::Integer(7), SqlType::Int, SqlType::Bit, Value::Integer(1))]
    #[case::int_as_bytes(Value::Integer(258), SqlType::Int, SqlType::VarBinary(Length::Of(8)), Value::Blob(vec![0, 0, 1, 2]))]
    #[case::null_stays_null(Value::Null, SqlType::Int, SqlType::DateTime, Value::Null)]
    fn is_converted(#[case] value: Value, #[case] from: SqlType, #[case] to: SqlType, #[case] expected: Value) {
        assert_eq!(convert(value, from, to, 0), Ok(expected));
    }

    #[rstest]
    #[case::no_number(Value::Text("abc".into()), TEXT, SqlType::Int, 245)]
    #[case::not_a_number(Value::Text("nan".into()), TEXT, SqlType::Float, 8114)]
    #[case::infinite(Value::Text("-inf".into()), TEXT, SqlType::Float, 8114)]
    #[case::beyond_all_numbers(Value::Text("1e999".into()), TEXT, SqlType::Decimal { precision: 9, scale: 2 }, 8114)]
    #[case::too_large(Value::Integer(1 << 40), SqlType::BigInt, SqlType::Int, 8115)]
    #[case::no_date(Value::Text("soon".into()), TEXT, SqlType::DateTime, 241)]
    #[case::no_guid(Value::Text("soon".into()), TEXT, SqlType::UniqueIdentifier, 8169)]
    #[case::no_way(Value::Text("2026-01-01 00:00:00.000".into()), SqlType::DateTime, SqlType::Int, 529)]
    fn is_refused(#[case] value: Value, #[case] from: SqlType, #[case] to: SqlType, #[case] number: i32) {
        assert_eq!(convert(value, from, to, 0).expect_err("there is no such conversion").number, number);
    }
}
