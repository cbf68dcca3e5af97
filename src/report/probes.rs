//! `probes.csv`: every attempt of every probe stream, one a line.
//!
//! Times are milliseconds since the run began, with three decimals. A cell is empty where there is no value (an attempt that was dropped
//! never started), never 0. Texts are kept to one line and cannot start a formula.

use crate::{
    report::{figure, text},
    result::RunResult,
};

/// The columns, in their order.
pub const COLUMNS: [&str; 11] =
    ["scenario", "trial", "stream", "attempt", "scheduled_ms", "started_ms", "ended_ms", "outcome", "stage", "code", "error"];

/// The table, with a line of column names.
#[must_use]
pub fn render(result: &RunResult) -> String {
    let mut table = csv::Writer::from_writer(Vec::new());
    write(&mut table, result).expect("records of equal length are written to memory");
    let bytes = table.into_inner().expect("memory takes what is flushed to it");
    String::from_utf8(bytes).expect("every cell is text")
}

fn write(table: &mut csv::Writer<Vec<u8>>, result: &RunResult) -> csv::Result<()> {
    table.write_record(COLUMNS)?;
    for trial in &result.trials {
        let scenario = text::spreadsheet(&trial.scenario);
        let number = trial.trial.to_string();
        for attempt in &trial.attempts {
            let time = |time: Option<_>| time.map(figure::exact_ms).unwrap_or_default();
            let words = |words: &Option<String>| words.as_deref().map(text::spreadsheet).unwrap_or_default();
            table.write_record([
                scenario.as_str(),
                &number,
                attempt.stream,
                &attempt.attempt.to_string(),
                &figure::exact_ms(attempt.scheduled),
                &time(attempt.started),
                &time(attempt.ended),
                attempt.outcome,
                &words(&attempt.stage),
                &attempt.code.map(|code| code.to_string()).unwrap_or_default(),
                &words(&attempt.error),
            ])?;
        }
    }
    Ok(())
}
