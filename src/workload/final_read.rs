//! The tables read from end to end.
//!
//! Each table is one ordered stream, compared on the fly with the function that makes rows and with the ledger; nothing is kept but ranges
//! of numbers and a few examples, so ten million rows take no more memory than ten. The rows go to a CSV file as they were read.

use std::{
    fs::File,
    future::Future,
    io::{self, BufWriter, Write as _},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Row, Session, SqlError, SqlErrorKind, Tables, TrialKey, rows::hexadecimal};
use crate::{
    event::{Outcome, PROBE_WRITER, RowKey, Stage, TableRead},
    measure::Ledger,
};

/// The longest silence between two rows of a final read.
pub const ROW_DEADLINE: Duration = Duration::from_secs(30);

/// The header of the CSV files of rows.
pub const HEADER: [&str; 9] = ["scenario", "trial", "table", "writer", "seq", "payload", "checksum", "incarnation", "id"];

/// A row as the server returned it. In JSON a list of its columns: millions of them travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Columns", into = "Columns")]
pub struct ReadRow {
    /// Who wrote it, as stored.
    pub writer: i64,
    /// Its number, as stored.
    pub seq: i64,
    /// As stored.
    pub payload: String,
    /// As stored.
    pub checksum: i64,
    /// The start time of the server that took it, as it filled it in.
    pub incarnation: Option<String>,
    /// Its place in the server's order, where the table has one.
    pub id: Option<i64>,
}

type Columns = (i64, i64, String, i64, Option<String>, Option<i64>);

impl From<Columns> for ReadRow {
    fn from((writer, seq, payload, checksum, incarnation, id): Columns) -> Self {
        Self { writer, seq, payload, checksum, incarnation, id }
    }
}

impl From<ReadRow> for Columns {
    fn from(row: ReadRow) -> Self {
        (row.writer, row.seq, row.payload, row.checksum, row.incarnation, row.id)
    }
}

/// Compares the rows of one table, in the order (writer, seq, id), with what should be there.
#[derive(Debug)]
pub struct Comparison<'a> {
    trial: &'a TrialKey,
    ledger: &'a Ledger,
    read: TableRead,
    /// The last acknowledged row of the writer at hand, and its place in the server's order.
    last: Option<(RowKey, i64)>,
}

impl<'a> Comparison<'a> {
    /// Begins with an empty table.
    #[must_use]
    pub fn new(table: &str, trial: &'a TrialKey, ledger: &'a Ledger) -> Self {
        Self { trial, ledger, read: TableRead { table: table.to_owned(), ..TableRead::default() }, last: None }
    }

    /// Takes the next row.
    pub fn push(&mut self, row: &ReadRow) {
        self.read.rows += 1;
        let (Ok(writer), Ok(seq)) = (u32::try_from(row.writer), u64::try_from(row.seq)) else {
            self.read.corrupt.add(|| format!("writer {} seq {}: no client counts below zero", row.writer, row.seq));
            return;
        };
        let key = RowKey { writer, seq };
        if !self.read.found.entry(writer).or_default().insert(seq) {
            self.read.duplicate.add(|| key.to_string());
            return;
        }
        if let Some(fault) = self.fault_in(key, row) {
            self.read.corrupt.add(|| format!("{key}: {fault}"));
        }
        self.compare_order(key, row);
    }

    /// What is wrong with the columns of a row, if something is.
    fn fault_in(&self, key: RowKey, row: &ReadRow) -> Option<String> {
        let good = Row::of(self.trial, key);
        if row.payload != good.payload {
            return Some(format!("the payload is `{}` and was written as `{}`", row.payload.escape_debug(), good.payload));
        }
        if row.checksum != good.checksum {
            return Some(format!("the checksum is {} and was written as {}", row.checksum, good.checksum));
        }
        let taken_by = self.ledger.taken_by(key)?;
        (row.incarnation.as_ref() != Some(&taken_by.0)).then(|| {
            format!(
                "the incarnation is `{}` and was acknowledged as `{}`",
                row.incarnation.as_deref().unwrap_or("NULL").escape_debug(),
                taken_by.0
            )
        })
    }

    /// A writer of the load sends a row only when it knows the outcome of the one before, so the server's order of its acknowledged rows
    /// must be theirs. Rows in doubt are left out: an orphan may commit late. So is the probe stream: its attempts overlap.
    fn compare_order(&mut self, key: RowKey, row: &ReadRow) {
        let Some(id) = row.id else { return };
        if key.writer == PROBE_WRITER || self.ledger.outcome(key) != Some(Outcome::Acknowledged) {
            return;
        }
        match self.last {
            Some((before, place)) if before.writer == key.writer && place >= id => {
                self.read.misordered.add(|| format!("{key} (id {id}) comes before {before} (id {place})"));
            }
            _ => self.last = Some((key, id)),
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> TableRead {
        self.read
    }
}

/// A CSV file of rows, opened before the run.
#[derive(Debug)]
pub struct RowFile {
    file: BufWriter<File>,
}

impl RowFile {
    /// Begins the file with its header.
    pub fn create(path: &std::path::Path) -> io::Result<Self> {
        let mut rows = Self { file: BufWriter::new(File::create_new(path)?) };
        let header = line(HEADER)?;
        rows.file.write_all(&header)?;
        rows.file.flush()?;
        Ok(rows)
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn line<I: IntoIterator<Item = T>, T: AsRef<[u8]>>(cells: I) -> io::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    writer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

/// A table that is being read: its rows are compared and appended to the file as they come.
#[derive(Debug)]
pub struct Reading<'a> {
    table: &'a str,
    label: (&'a str, u32),
    comparison: Comparison<'a>,
    hash: Sha256,
    file: &'a mut RowFile,
}

/// The rows of a table could not be written to their file.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the rows of table `{table}` to their file")]
pub struct RowFileError {
    table: String,
    source: io::Error,
}

impl<'a> Reading<'a> {
    /// Begins with no row. `label` is what the file calls the trial: the scenario's name, and which trial of it.
    #[must_use]
    pub fn new(table: &'a str, trial: &'a TrialKey, ledger: &'a Ledger, label: (&'a str, u32), file: &'a mut RowFile) -> Self {
        Self { table, label, comparison: Comparison::new(table, trial, ledger), hash: Sha256::new(), file }
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// If the file cannot take it.
    pub fn push(&mut self, row: &ReadRow) -> Result<(), RowFileError> {
        let line = csv_line(self.label, self.table, row);
        line.and_then(|line| {
            self.hash.update(&line);
            self.file.append(&line)
        })
        .map_err(|source| self.error(source))?;
        self.comparison.push(row);
        Ok(())
    }

    /// How many rows were taken.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.comparison.read.rows
    }

    /// Writes out what was read so far, for a read that broke off too.
    ///
    /// # Errors
    /// If the file cannot take it.
    pub fn flush(&mut self) -> Result<(), RowFileError> {
        self.file.flush().map_err(|source| self.error(source))
    }

    /// What was found.
    ///
    /// # Errors
    /// If the file cannot take the last rows.
    pub fn finish(mut self) -> Result<TableRead, RowFileError> {
        self.flush()?;
        let mut read = self.comparison.finish();
        read.sha256 = hexadecimal(&self.hash.finalize());
        Ok(read)
    }

    fn error(&self, source: io::Error) -> RowFileError {
        RowFileError { table: self.table.to_owned(), source }
    }
}

/// Reads a table from end to end and hands over its rows in order, so many at a time, the last time fewer. Returns how many there were.
///
/// # Errors
/// If the server refuses or breaks off, or if nobody takes the rows any more.
pub async fn read_table<F: Future<Output = Result<(), String>>>(
    session: &mut Session,
    tables: &Tables,
    table: &str,
    at_a_time: usize,
    mut take: impl FnMut(Vec<ReadRow>) -> F,
) -> Result<u64, SqlError> {
    let broken = |text: String| SqlError { stage: Stage::Write, kind: SqlErrorKind::Broken(text) };
    let mut rows = session.stream(&tables.read_all(table), ROW_DEADLINE).await?;
    let mut count = 0;
    let mut taken = Vec::with_capacity(at_a_time);
    while let Some(row) = rows.next(ROW_DEADLINE).await? {
        taken.push(read_row(&row).map_err(|error| broken(format!("cannot read a row of table `{table}`: {error}")))?);
        count += 1;
        if taken.len() >= at_a_time {
            take(std::mem::replace(&mut taken, Vec::with_capacity(at_a_time))).await.map_err(broken)?;
        }
    }
    if !taken.is_empty() {
        take(taken).await.map_err(broken)?;
    }
    Ok(count)
}

fn read_row(row: &tiberius::Row) -> Result<ReadRow, tiberius::error::Error> {
    let number = |column: usize| row.try_get::<i64, _>(column);
    let text = |column: usize| row.try_get::<&str, _>(column).map(|text| text.map(str::to_owned));
    Ok(ReadRow {
        writer: row.try_get::<i32, _>(0)?.map_or(-1, i64::from),
        seq: number(1)?.unwrap_or(-1),
        payload: text(2)?.unwrap_or_default(),
        checksum: number(3)?.unwrap_or(-1),
        incarnation: text(4)?,
        id: if row.len() > 5 { number(5)? } else { None },
    })
}

fn csv_line((scenario, trial): (&str, u32), table: &str, row: &ReadRow) -> io::Result<Vec<u8>> {
    line([
        scenario,
        &trial.to_string(),
        table,
        &row.writer.to_string(),
        &row.seq.to_string(),
        &row.payload,
        &row.checksum.to_string(),
        row.incarnation.as_deref().unwrap_or_default(),
        &row.id.map(|id| id.to_string()).unwrap_or_default(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Incarnation, LedgerEntry};

    const LIFE: &str = "2026-01-01T00:00:00.000";

    fn trial() -> TrialKey {
        TrialKey("run/1".into())
    }

    fn good(writer: u32, seq: u64, id: i64) -> ReadRow {
        let row = Row::of(&trial(), RowKey { writer, seq });
        ReadRow {
            writer: i64::from(writer),
            seq: i64::try_from(seq).unwrap(),
            payload: row.payload,
            checksum: row.checksum,
            incarnation: Some(LIFE.into()),
            id: Some(id),
        }
    }

    fn acknowledged(writer: u32, from: u64, to: u64) -> LedgerEntry {
        LedgerEntry { writer, from, to, outcome: Outcome::Acknowledged, incarnation: Some(Incarnation(LIFE.into())), error: None }
    }

    fn in_doubt(writer: u32, seq: u64) -> LedgerEntry {
        LedgerEntry { writer, from: seq, to: seq, outcome: Outcome::InDoubt, incarnation: None, error: None }
    }

    fn read(entries: &[LedgerEntry], rows: &[ReadRow]) -> TableRead {
        let mut ledger = Ledger::default();
        for entry in entries {
            ledger.enter(entry);
        }
        let trial = trial();
        let mut comparison = Comparison::new("heap", &trial, &ledger);
        for row in rows {
            comparison.push(row);
        }
        comparison.finish()
    }

    #[test]
    fn what_was_written_is_found_and_nothing_else_is_said() {
        let read = read(&[acknowledged(1, 0, 1)], &[good(1, 0, 1), good(1, 1, 2)]);
        assert_eq!(read.rows, 2);
        assert_eq!(read.found[&1].ranges().collect::<Vec<_>>(), [(0, 1)]);
        assert_eq!((read.duplicate.count, read.corrupt.count, read.misordered.count), (0, 0, 0));
    }

    #[test]
    fn a_second_copy_is_a_duplicate() {
        let read = read(&[acknowledged(1, 0, 0)], &[good(1, 0, 1), good(1, 0, 2), good(1, 0, 3)]);
        assert_eq!(read.duplicate.count, 2);
    }

    #[test]
    fn a_flipped_bit_in_any_column_is_corrupt() {
        let mut payload = good(1, 0, 1);
        payload.payload.replace_range(0..1, "z");
        let mut checksum = good(1, 0, 1);
        checksum.checksum ^= 1;
        let mut incarnation = good(1, 0, 1);
        incarnation.incarnation = Some("2026-01-01T00:00:00.001".into());
        let mut negative = good(1, 0, 1);
        negative.seq = -5;
        for row in [payload, checksum, incarnation, negative] {
            assert_eq!(read(&[acknowledged(1, 0, 0)], &[row]).corrupt.count, 1);
        }
    }

    #[test]
    fn a_row_of_another_trial_is_corrupt() {
        let row = Row::of(&TrialKey("run/2".into()), RowKey { writer: 1, seq: 0 });
        let stray = ReadRow { payload: row.payload, checksum: row.checksum, ..good(1, 0, 1) };
        assert_eq!(read(&[acknowledged(1, 0, 0)], &[stray]).corrupt.count, 1);
    }

    #[test]
    fn acknowledged_rows_out_of_order_are_told_once_each() {
        let read = read(&[acknowledged(1, 0, 2)], &[good(1, 0, 5), good(1, 1, 3), good(1, 2, 6)]);
        assert_eq!(read.misordered.count, 1);
        assert_eq!(read.misordered.examples, ["writer 1 seq 1 (id 3) comes before writer 1 seq 0 (id 5)"]);
    }

    #[test]
    fn a_row_in_doubt_may_commit_late() {
        let read = read(&[acknowledged(1, 0, 0), in_doubt(1, 1), acknowledged(1, 2, 2)], &[good(1, 0, 1), good(1, 1, 9), good(1, 2, 2)]);
        assert_eq!(read.misordered.count, 0);
    }

    #[test]
    fn each_writer_has_an_order_of_its_own() {
        let read = read(&[acknowledged(1, 0, 0), acknowledged(2, 0, 0)], &[good(1, 0, 9), good(2, 0, 1)]);
        assert_eq!(read.misordered.count, 0);
    }
}
