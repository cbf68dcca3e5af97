//! The server's log: lines on standard output, in the form of SQL Server's error log.
//!
//! `2026-11-23 16:20:15.12 Server      SQL Server is starting ...`. Whoever runs the container keeps them; a reader that is gone is no
//! reason to stop.

use std::io::Write as _;

use chrono::Utc;

/// Writes one line of `source`.
pub(crate) fn line(source: &str, text: &str) {
    let now = Utc::now();
    let hundredths = now.timestamp_subsec_millis() / 10;
    let line = format!("{}.{hundredths:02} {source:<12}{text}\n", now.format("%Y-%m-%d %H:%M:%S"));
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// Writes an error and its text, as two lines.
pub(crate) fn error(source: &str, number: i32, severity: u8, state: u8, text: &str) {
    line(source, &format!("Error: {number}, Severity: {severity}, State: {state}."));
    line(source, text);
}
