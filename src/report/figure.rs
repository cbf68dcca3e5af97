//! How figures are printed for people: lengths of time with their bounds, counts with their words.
//!
//! The law: a printed figure never claims more than is known.
//! - **Digits.** A measured length is printed in seconds. Its last digit stands for the largest power of ten that is no more than a tenth
//!   of the distance between the bounds, between a second and a millisecond: bounds 140 ms apart print hundredths (`1.23 s [1.18, 1.31]`),
//!   bounds 3 s apart print tenths.
//! - **Bounds.** The lower one is rounded down, the upper one up, so the printed ones still hold the truth.
//! - **Never ended.** What was not seen to end is `at least 41.2 s`: three digits, rounded down.
//! - **Nothing there.** `none` is a finding (the probes saw no outage); `-` is the lack of one (not measured).

use std::time::Duration;

use crate::result::{Bounded, TrialResult, Verdict};

/// What stands where nothing was measured.
pub const NOT_MEASURED: &str = "-";

/// What stands where there was no outage.
pub const NONE: &str = "none";

/// A measured length with its bounds: `1.23 s [1.18, 1.31]`, or `at least 41.2 s` if its end was not seen.
#[must_use]
pub fn bounded(length: &Bounded) -> String {
    let Bounded { at, lo, hi } = *length;
    let Some(hi) = hi else {
        return at_least(lo);
    };
    let digits = match hi.saturating_sub(lo).as_millis() {
        0..100 => 3,
        100..1_000 => 2,
        1_000..10_000 => 1,
        _ => 0,
    };
    let (low, high) = (seconds(lo, digits, Rounding::Down), seconds(hi, digits, Rounding::Up));
    match at {
        Some(at) => format!("{} s [{low}, {high}]", seconds(at, digits, Rounding::Nearest)),
        None => format!("{low} to {high} s"),
    }
}

fn at_least(lo: Duration) -> String {
    let digits = match lo.as_secs() {
        0 => 3,
        1..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    format!("at least {} s", seconds(lo, digits, Rounding::Down))
}

/// The outage of a trial: a figure, [`NONE`], or [`NOT_MEASURED`].
///
/// That there was none is a finding, so only a trial that came to one says so, not one that was cut short or whose cluster failed.
#[must_use]
pub fn outage(trial: &TrialResult) -> String {
    match (&trial.outage, trial.verdict) {
        (Some(outage), _) => bounded(outage),
        (None, Verdict::Passed | Verdict::Failed | Verdict::Unproven) if trial.probes.due > 0 => NONE.into(),
        (None, _) => NOT_MEASURED.into(),
    }
}

/// The recovery time of a trial: a figure or [`NOT_MEASURED`].
#[must_use]
pub fn recovery(trial: &TrialResult) -> String {
    trial.recovery.as_ref().map_or_else(|| NOT_MEASURED.into(), bounded)
}

/// The limit for the recovery, or [`NOT_MEASURED`] if the scenario sets none here.
#[must_use]
pub fn limit(trial: &TrialResult) -> String {
    trial.recovery_limit.map_or_else(|| NOT_MEASURED.into(), duration)
}

/// The recovery against its limit: `1.23 s [1.18, 1.31], limit 10 s`.
#[must_use]
pub fn recovery_and_limit(trial: &TrialResult) -> String {
    match trial.recovery_limit {
        Some(limit) => format!("{}, limit {}", recovery(trial), duration(limit)),
        None => recovery(trial),
    }
}

/// A length of time that somebody has set, exactly: `500 ms`, `10 s`, `1.5 s`, `1 m 30 s`, `2 h`.
#[must_use]
pub fn duration(length: Duration) -> String {
    let nanos = length.as_nanos();
    if nanos == 0 {
        return "0 s".into();
    }
    if nanos < 1_000_000_000 {
        return format!("{} ms", decimal(nanos, 6));
    }
    let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
    let mut parts = Vec::new();
    if minutes >= 60 {
        parts.push(format!("{} h", minutes / 60));
    }
    if minutes % 60 > 0 {
        parts.push(format!("{} m", minutes % 60));
    }
    if rest > 0 {
        parts.push(format!("{} s", decimal(rest, 9)));
    }
    parts.join(" ")
}

/// How long something took, roughly: tenths of a second below ten, then whole seconds.
#[must_use]
pub fn elapsed(length: Duration) -> String {
    let step = if length < Duration::from_secs(10) { 100 } else { 1_000 };
    let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    match ms.saturating_add(step / 2) / step * step {
        tenths @ 0..1_000 => format!("{} s", decimal(u128::from(tenths), 3)),
        ms => duration(Duration::from_millis(ms)),
    }
}

/// Milliseconds with three decimals, for tables that programs read.
#[must_use]
pub fn exact_ms(length: Duration) -> String {
    let micros = (length.as_nanos() + 500) / 1_000;
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}

/// A count: `10,412`.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count that may be missing: [`NOT_MEASURED`] then, never 0.
#[must_use]
pub fn count_if_known(n: Option<u64>) -> String {
    n.map_or_else(|| NOT_MEASURED.into(), count)
}

/// A count with its word, in the singular or the plural: `1 row`, `2 rows`.
///
/// The one place where a plural is formed; `word` is a noun whose plural takes an *s*.
#[must_use]
pub fn counted(n: u64, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{} {word}s", count(n)) }
}

#[derive(Clone, Copy)]
enum Rounding {
    Down,
    Nearest,
    Up,
}

/// Seconds with so many digits after the point.
fn seconds(length: Duration, digits: u32, rounding: Rounding) -> String {
    let step = 10_u128.pow(9 - digits);
    let nanos = length.as_nanos();
    let steps = match rounding {
        Rounding::Down => nanos / step,
        Rounding::Nearest => (nanos + step / 2) / step,
        Rounding::Up => nanos.div_ceil(step),
    };
    let whole = 10_u128.pow(digits);
    if digits == 0 { steps.to_string() } else { format!("{}.{:0width$}", steps / whole, steps % whole, width = digits as usize) }
}

/// `n` divided by ten to the power of `digits`, without zeros at the end.
fn decimal(n: u128, digits: u32) -> String {
    let whole = 10_u128.pow(digits);
    let text = format!("{}.{:0width$}", n / whole, n % whole, width = digits as usize);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[rstest]
    #[case::hundredths(1_234, 1_189, 1_302, "1.23 s [1.18, 1.31]")]
    #[case::bounds_140_ms_apart(12_305, 12_236, 12_376, "12.31 s [12.23, 12.38]")]
    #[case::exactly_100_ms_apart(420, 380, 480, "0.42 s [0.38, 0.48]")]
    #[case::just_below_100_ms_apart(420, 380, 479, "0.420 s [0.380, 0.479]")]
    #[case::a_second_apart(2_500, 2_040, 3_040, "2.5 s [2.0, 3.1]")]
    #[case::ten_seconds_apart(372_400, 367_100, 377_900, "372 s [367, 378]")]
    #[case::two_minutes_apart(372_400, 300_000, 420_000, "372 s [300, 420]")]
    #[case::the_same(5, 5, 5, "0.005 s [0.005, 0.005]")]
    #[case::nothing_is_known_from_below(60, 0, 110, "0.06 s [0.00, 0.11]")]
    fn the_digits_follow_the_bounds(#[case] at: u64, #[case] lo: u64, #[case] hi: u64, #[case] printed: &str) {
        assert_eq!(bounded(&Bounded { at: Some(ms(at)), lo: ms(lo), hi: Some(ms(hi)) }), printed);
    }

    #[rstest]
    #[case(41_299, "at least 41.2 s")]
    #[case(412, "at least 0.412 s")]
    #[case(4_129, "at least 4.12 s")]
    #[case(1_200_900, "at least 1200 s")]
    fn what_did_not_end_is_never_a_figure(#[case] lo: u64, #[case] printed: &str) {
        assert_eq!(bounded(&Bounded { at: None, lo: ms(lo), hi: None }), printed);
        assert_eq!(bounded(&Bounded { at: Some(ms(lo + 5)), lo: ms(lo), hi: None }), printed);
    }

    #[test]
    fn bounds_without_a_figure_are_a_range() {
        assert_eq!(bounded(&Bounded { at: None, lo: ms(1_180), hi: Some(ms(1_310)) }), "1.18 to 1.31 s");
    }

    #[rstest]
    #[case(0, "0 s")]
    #[case(500, "500 ms")]
    #[case(1_500, "1.5 s")]
    #[case(10_000, "10 s")]
    #[case(90_000, "1 m 30 s")]
    #[case(1_200_000, "20 m")]
    #[case(7_200_000, "2 h")]
    #[case(3_600_250, "1 h 0.25 s")]
    fn a_limit_is_printed_as_it_was_set(#[case] length: u64, #[case] printed: &str) {
        assert_eq!(duration(ms(length)), printed);
    }

    #[rstest]
    #[case(0, "0 s")]
    #[case(40, "0 s")]
    #[case(449, "0.4 s")]
    #[case(4_250, "4.3 s")]
    #[case(9_990, "10 s")]
    #[case(41_499, "41 s")]
    #[case(72_000, "1 m 12 s")]
    fn an_elapsed_time_is_rough(#[case] length: u64, #[case] printed: &str) {
        assert_eq!(elapsed(ms(length)), printed);
    }

    #[rstest]
    #[case(0, "0", "0 rows")]
    #[case(1, "1", "1 row")]
    #[case(999, "999", "999 rows")]
    #[case(1_000, "1,000", "1,000 rows")]
    #[case(u64::MAX, "18,446,744,073,709,551,615", "18,446,744,073,709,551,615 rows")]
    fn counts_are_grouped_and_take_their_word(#[case] n: u64, #[case] plain: &str, #[case] rows: &str) {
        assert_eq!(count(n), plain);
        assert_eq!(counted(n, "row"), rows);
    }

    #[test]
    fn no_outage_is_a_finding_and_needs_probes_and_a_verdict() {
        let mut trial = TrialResult::planned("steady", 1);
        assert_eq!(outage(&trial), "-");
        trial.verdict = Verdict::Passed;
        assert_eq!(outage(&trial), "-");
        trial.probes.due = 40;
        assert_eq!(outage(&trial), "none");
        trial.verdict = Verdict::Interrupted;
        assert_eq!(outage(&trial), "-");
        trial.outage = Some(Bounded { at: None, lo: ms(900), hi: None });
        assert_eq!(outage(&trial), "at least 0.900 s");
    }

    #[test]
    fn a_program_gets_microseconds() {
        assert_eq!(exact_ms(Duration::from_nanos(12_345_678)), "12.346");
        assert_eq!(exact_ms(Duration::ZERO), "0.000");
    }

    proptest! {
        #[test]
        fn printed_bounds_hold_the_truth(lo in 0..u64::MAX / 4, width in 0..200_000_000_000_u64, within in 0..=100_u64) {
            let at = Duration::from_nanos(lo + width / 100 * within);
            let (lo, hi) = (Duration::from_nanos(lo), Duration::from_nanos(lo + width));
            let printed = bounded(&Bounded { at: Some(at), lo, hi: Some(hi) });
            let figures: Vec<u128> = printed
                .replace(['[', ']', ',', 's'], " ")
                .split_whitespace()
                .map(|figure| {
                    let (whole, part) = figure.split_once('.').unwrap_or((figure, ""));
                    format!("{whole}{part:0<9}").parse().expect("a figure")
                })
                .collect();
            prop_assert_eq!(figures.len(), 3);
            prop_assert!(figures[1] <= lo.as_nanos() && hi.as_nanos() <= figures[2]);
            prop_assert!(figures[1] <= figures[0] && figures[0] <= figures[2]);
        }
    }
}
