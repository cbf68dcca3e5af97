//! Dates and times: how they are kept in SQLite (as text that sorts), read from T-SQL, and counted on the wire.
//!
//! A `datetime` is kept as `2026-11-23 16:20:15.123`, a `datetime2(n)` with n digits, a `date` as `2026-11-23`. A `datetime` knows only
//! three hundredths of a second, so its milliseconds end in 0, 3 or 7.

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};

use super::types::SqlType;

/// How many ticks of a `datetime` make a day.
const TICKS_A_DAY: i64 = 24 * 60 * 60 * 300;

/// Reads a date, a time or both in the ISO forms, `2026-11-23T16:20:15.123`, and in the unseparated one, `20261123 16:20:15`.
pub(crate) fn parse(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim();
    let text = text.strip_suffix('Z').unwrap_or(text);
    if text.is_empty() {
        return midnight(1900, 1, 1);
    }
    if let Some(time) = parse_time(text) {
        return Some(NaiveDate::from_ymd_opt(1900, 1, 1)?.and_time(time));
    }
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d")
        .or_else(|_| NaiveDate::parse_from_str(date, "%Y/%m/%d"))
        .or_else(|error| if date.len() == 8 { NaiveDate::parse_from_str(date, "%Y%m%d") } else { Err(error) })
        .ok()?;
    let time = if time.trim().is_empty() { NaiveTime::MIN } else { parse_time(time.trim())? };
    (1..=9999).contains(&date.year()).then(|| date.and_time(time))
}

fn parse_time(text: &str) -> Option<NaiveTime> {
    text.contains(':').then_some(())?;
    NaiveTime::parse_from_str(text, "%H:%M:%S%.f").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M")).ok()
}

fn midnight(year: i32, month: u32, day: u32) -> Option<NaiveDateTime> {
    Some(NaiveDate::from_ymd_opt(year, month, day)?.and_time(NaiveTime::MIN))
}

/// The text under which a value of type `ty` is kept.
pub(crate) fn store(at: NaiveDateTime, ty: SqlType) -> String {
    match ty {
        SqlType::Date => at.format("%Y-%m-%d").to_string(),
        SqlType::DateTime2(0) => round_to(at, 1_000_000_000).format("%Y-%m-%d %H:%M:%S").to_string(),
        SqlType::DateTime2(scale) => {
            let unit = 10_i64.pow(9 - u32::from(scale.min(7)));
            let at = round_to(at, unit);
            format!("{}.{:0width$}", at.format("%Y-%m-%d %H:%M:%S"), i64::from(at.nanosecond()) / unit, width = usize::from(scale.min(7)))
        }
        _ => from_ticks(ticks(at)).format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
    }
}

fn round_to(at: NaiveDateTime, unit: i64) -> NaiveDateTime {
    let nanos = i64::from(at.nanosecond());
    let rounded = (nanos + unit / 2) / unit * unit;
    at + TimeDelta::nanoseconds(rounded - nanos)
}

/// A `datetime`: days since 1900 and three hundredths of a second since midnight.
pub(crate) fn ticks(at: NaiveDateTime) -> (i32, u32) {
    let days = at.date().signed_duration_since(epoch_1900()).num_days();
    let nanos = i64::from(at.num_seconds_from_midnight()) * 1_000_000_000 + i64::from(at.nanosecond());
    let ticks = (nanos * 3 + 5_000_000) / 10_000_000;
    let (days, ticks) = if ticks >= TICKS_A_DAY { (days + 1, 0) } else { (days, ticks) };
    (i32::try_from(days).unwrap_or(i32::MAX), u32::try_from(ticks).unwrap_or(0))
}

/// The moment of a `datetime`, to the millisecond as it is shown.
pub(crate) fn from_ticks((days, ticks): (i32, u32)) -> NaiveDateTime {
    let millis = (i64::from(ticks) * 10 + 1) / 3;
    shift(epoch_1900(), i64::from(days)).and_time(NaiveTime::MIN) + TimeDelta::milliseconds(millis)
}

/// Days since 0001-01-01, as `date` and `datetime2` count them.
pub(crate) fn day_number(date: NaiveDate) -> u32 {
    u32::try_from(date.signed_duration_since(epoch_0001()).num_days()).unwrap_or(0)
}

/// The date of a day number.
pub(crate) fn from_day_number(days: u32) -> NaiveDate {
    shift(epoch_0001(), i64::from(days))
}

/// The time of day in units of 10^-scale seconds, as `datetime2` counts it.
pub(crate) fn time_units(at: NaiveDateTime, scale: u8) -> u64 {
    let unit = 10_u64.pow(9 - u32::from(scale.min(7)));
    (u64::from(at.num_seconds_from_midnight()) * 1_000_000_000 + u64::from(at.nanosecond())) / unit
}

/// The time of day of so many units of 10^-scale seconds.
pub(crate) fn from_time_units(units: u64, scale: u8) -> NaiveTime {
    let nanos = units.saturating_mul(10_u64.pow(9 - u32::from(scale.min(7))));
    let seconds = u32::try_from(nanos / 1_000_000_000).unwrap_or(0);
    let rest = u32::try_from(nanos % 1_000_000_000).unwrap_or(0);
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, rest).unwrap_or(NaiveTime::MIN)
}

fn shift(date: NaiveDate, days: i64) -> NaiveDate {
    let far = Days::new(days.unsigned_abs());
    let moved = if days < 0 { date.checked_sub_days(far) } else { date.checked_add_days(far) };
    moved.unwrap_or(date)
}

fn epoch_1900() -> NaiveDate {
    NaiveDate::from_ymd_opt(1900, 1, 1).expect("it is a date")
}

fn epoch_0001() -> NaiveDate {
    NaiveDate::from_ymd_opt(1, 1, 1).expect("it is a date")
}

/// A moment in one of `CONVERT`'s styles; `None`: a style that is not known here.
pub(crate) fn styled(at: NaiveDateTime, ty: SqlType, style: i64) -> Option<String> {
    let fraction = match ty {
        SqlType::DateTime2(scale) => {
            format!(".{:0width$}", time_units(at, scale) % 10_u64.pow(u32::from(scale)), width = usize::from(scale))
        }
        _ => at.format("%.3f").to_string(),
    };
    let fraction = if ty == SqlType::DateTime2(0) { String::new() } else { fraction };
    if ty == SqlType::Date && matches!(style, 0 | 20 | 21 | 23 | 120 | 121 | 126 | 127) {
        return Some(at.format("%Y-%m-%d").to_string());
    }
    Some(match style {
        0 | 100 if matches!(ty, SqlType::DateTime2(_)) => format!("{}{fraction}", at.format("%Y-%m-%d %H:%M:%S")),
        0 | 100 => at.format("%b %e %Y %_I:%M%p").to_string(),
        23 => at.format("%Y-%m-%d").to_string(),
        112 => at.format("%Y%m%d").to_string(),
        8 | 108 => at.format("%H:%M:%S").to_string(),
        20 | 120 => at.format("%Y-%m-%d %H:%M:%S").to_string(),
        21 | 25 | 121 => format!("{}{fraction}", at.format("%Y-%m-%d %H:%M:%S")),
        126 | 127 if matches!(ty, SqlType::DateTime) && at.nanosecond() == 0 => at.format("%Y-%m-%dT%H:%M:%S").to_string(),
        126 | 127 => format!("{}{fraction}", at.format("%Y-%m-%dT%H:%M:%S")),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::iso("2026-11-23T16:20:15.123", "2026-11-23 16:20:15.123")]
    #[case::rounds_to_three_hundredths("2026-11-23 16:20:15.125", "2026-11-23 16:20:15.127")]
    #[case::rounds_over_midnight("2026-11-23 23:59:59.999", "2026-11-24 00:00:00.000")]
    #[case::unseparated("20261123", "2026-11-23 00:00:00.000")]
    #[case::a_time_alone_is_in_1900("16:20", "1900-01-01 16:20:00.000")]
    fn a_datetime_is_kept_as(#[case] text: &str, #[case] kept: &str) {
        assert_eq!(store(parse(text).expect("it is a moment"), SqlType::DateTime), kept);
    }

    #[rstest]
    #[case("2026-02-30")]
    #[case("yesterday")]
    #[case("2026-11-23 25:00:00")]
    #[case("99")]
    fn what_is_no_moment_is_refused(#[case] text: &str) {
        assert_eq!(parse(text), None);
    }

    #[rstest]
    #[case::with_milliseconds("2026-11-23 16:20:15.123", "2026-11-23T16:20:15.123")]
    #[case::without("2026-11-23 16:20:15", "2026-11-23T16:20:15")]
    fn style_126_omits_an_empty_fraction(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(styled(parse(text).expect("it is a moment"), SqlType::DateTime, 126).as_deref(), Some(shown));
    }

    proptest! {
        #[test]
        fn every_tick_survives_being_shown(days in -53_690_i32..2_958_463, tick in 0_u32..25_920_000) {
            prop_assert_eq!(ticks(from_ticks((days, tick))), (days, tick));
        }

        #[test]
        fn every_day_number_survives(days in 0_u32..3_652_058) {
            prop_assert_eq!(day_number(from_day_number(days)), days);
        }
    }
}
