//! The tokens that make up an answer, and [`Response`], which frames and sends them.
//!
//! A DONE token must say whether more follows, so each is held back until that is known. A response with an outlet sends itself in pieces as
//! it grows and waits when the client is slow: a result of ten million rows never stands in memory.

use bytes::{BufMut, Bytes, BytesMut};
use rusqlite::types::ValueRef;
use tokio::sync::mpsc;

use super::{
    errors::SqlError,
    packet::{self, PacketType},
    types::{COLLATION, SqlType, TypedValue},
};

/// How much is gathered before it is handed to the connection.
const PIECE: usize = 16 << 10;

/// The client is gone, or the answer is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// A column of a result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResultColumn {
    /// Its name; empty where an expression has none.
    pub(crate) name: String,
    /// Its type.
    pub(crate) ty: SqlType,
    /// Whether it may hold NULL.
    pub(crate) nullable: bool,
    /// Whether the server numbers it.
    pub(crate) identity: bool,
}

/// What a statement was, as a DONE token tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Anything without a number of its own.
    Other,
    /// SELECT
    Select,
    /// INSERT
    Insert,
    /// DELETE
    Delete,
    /// UPDATE
    Update,
    /// BEGIN TRANSACTION
    Begin,
    /// COMMIT
    Commit,
    /// ROLLBACK
    Rollback,
}

impl Verb {
    const fn code(self) -> u16 {
        match self {
            Self::Other => 0xFD,
            Self::Select => 0xC1,
            Self::Insert => 0xC3,
            Self::Delete => 0xC4,
            Self::Update => 0xC5,
            Self::Begin => 0xD4,
            Self::Commit => 0xD5,
            Self::Rollback => 0xD2,
        }
    }
}

/// What the client's environment changed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnvChange<'a> {
    /// Another database: from, to.
    Database(&'a str, &'a str),
    /// The language.
    Language(&'a str),
    /// The packet size: from, to.
    PacketSize(usize, usize),
    /// The collation.
    Collation,
    /// A transaction began.
    Begin(u64),
    /// It was committed.
    Commit(u64),
    /// It was rolled back.
    Rollback(u64),
    /// The session is as new.
    Reset,
}

const DONE_MORE: u16 = 0x01;
const DONE_ERROR: u16 = 0x02;
const DONE_COUNT: u16 = 0x10;
const DONE_ATTENTION: u16 = 0x20;

#[derive(Clone, Copy, Debug)]
struct Done {
    status: u16,
    verb: u16,
    rows: u64,
}

/// An answer in the making.
#[derive(Debug)]
pub(crate) struct Response {
    server: String,
    packet_size: usize,
    outlet: Option<mpsc::Sender<Bytes>>,
    tokens: BytesMut,
    framed: BytesMut,
    packet_id: u8,
    held: Option<Done>,
    in_procedure: bool,
    gone: bool,
}

impl Response {
    /// An answer that is kept until it is [finished](Self::finish).
    pub(crate) fn kept(server: &str, packet_size: usize) -> Self {
        Self {
            server: server.to_owned(),
            packet_size,
            outlet: None,
            tokens: BytesMut::new(),
            framed: BytesMut::new(),
            packet_id: 1,
            held: None,
            in_procedure: false,
            gone: false,
        }
    }

    /// An answer that is sent as it grows. Must not be used on a thread that drives async tasks.
    pub(crate) fn streamed(server: &str, packet_size: usize, outlet: mpsc::Sender<Bytes>) -> Self {
        Self { outlet: Some(outlet), ..Self::kept(server, packet_size) }
    }

    /// From here on statements run inside a procedure: their DONE is a DONEINPROC.
    pub(crate) fn enter_procedure(&mut self) {
        self.in_procedure = true;
    }

    /// Whether the client is gone, so that going on is pointless.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    fn release(&mut self, more: bool) {
        if let Some(done) = self.held.take() {
            let more = if more { DONE_MORE } else { 0 };
            let token = if self.in_procedure { 0xFF } else { 0xFD };
            self.put_done(token, Done { status: done.status | more, ..done });
        }
    }

    fn put_done(&mut self, token: u8, done: Done) {
        self.tokens.put_u8(token);
        self.tokens.put_u16_le(done.status);
        self.tokens.put_u16_le(done.verb);
        self.tokens.put_u64_le(done.rows);
    }

    /// A statement is done; `rows` is `None` where no count is due.
    pub(crate) fn done(&mut self, verb: Verb, rows: Option<u64>) {
        self.release(true);
        let status = if rows.is_some() { DONE_COUNT } else { 0 };
        self.held = Some(Done { status, verb: verb.code(), rows: rows.unwrap_or(0) });
    }

    /// A statement failed; its error was [written](Self::error) before.
    pub(crate) fn failed(&mut self) {
        self.release(true);
        self.held = Some(Done { status: DONE_ERROR, verb: Verb::Other.code(), rows: 0 });
    }

    /// An error.
    pub(crate) fn error(&mut self, error: &SqlError, line: u32) {
        self.release(true);
        self.put_message(0xAA, error.number, error.state, error.class, &error.message, line);
    }

    /// A message that is no error.
    pub(crate) fn info(&mut self, number: i32, state: u8, class: u8, message: &str, line: u32) {
        self.release(true);
        self.put_message(0xAB, number, state, class, message, line);
    }

    fn put_message(&mut self, token: u8, number: i32, state: u8, class: u8, message: &str, line: u32) {
        let mut body = BytesMut::new();
        body.put_i32_le(number);
        body.put_u8(state);
        body.put_u8(class);
        put_us_varchar(message, &mut body);
        put_b_varchar(&self.server, &mut body);
        put_b_varchar("", &mut body);
        body.put_u32_le(line);
        self.put_sized(token, &body);
    }

    fn put_sized(&mut self, token: u8, body: &[u8]) {
        self.tokens.put_u8(token);
        self.tokens.put_u16_le(u16::try_from(body.len()).expect("tokens with a short length are bounded by their writers"));
        self.tokens.put_slice(body);
    }

    /// The client's environment changed.
    pub(crate) fn env_change(&mut self, change: EnvChange<'_>) {
        self.release(true);
        let mut body = BytesMut::new();
        let mut texts = |code: u8, new: &str, old: &str| {
            body.put_u8(code);
            put_b_varchar(new, &mut body);
            put_b_varchar(old, &mut body);
        };
        match change {
            EnvChange::Database(from, to) => texts(1, to, from),
            EnvChange::Language(to) => texts(2, to, ""),
            EnvChange::PacketSize(from, to) => texts(4, &to.to_string(), &from.to_string()),
            EnvChange::Collation => {
                body.put_slice(&[7, 5]);
                body.put_slice(&COLLATION);
                body.put_u8(0);
            }
            EnvChange::Begin(descriptor) => {
                body.put_slice(&[8, 8]);
                body.put_u64_le(descriptor);
                body.put_u8(0);
            }
            EnvChange::Commit(descriptor) | EnvChange::Rollback(descriptor) => {
                body.put_slice(&[if matches!(change, EnvChange::Commit(_)) { 9 } else { 10 }, 0, 8]);
                body.put_u64_le(descriptor);
            }
            EnvChange::Reset => body.put_slice(&[18, 0, 0]),
        }
        self.put_sized(0xE3, &body);
    }

    /// The login is accepted.
    pub(crate) fn login_ack(&mut self, tds_version: u32, program: &str, version: [u8; 4]) {
        let mut body = BytesMut::new();
        body.put_u8(1);
        body.put_u32(tds_version);
        put_b_varchar(program, &mut body);
        body.put_slice(&version);
        self.put_sized(0xAD, &body);
    }

    /// The columns of the rows that follow.
    pub(crate) fn columns(&mut self, columns: &[ResultColumn]) -> Result<(), Gone> {
        self.release(true);
        self.tokens.put_u8(0x81);
        self.tokens.put_u16_le(u16::try_from(columns.len()).expect("SQLite allows far fewer columns"));
        for column in columns {
            self.tokens.put_u32_le(0);
            let flags = u16::from(column.nullable) | if column.identity { 0x10 } else { 0x08 };
            self.tokens.put_u16_le(flags);
            column.ty.write_info(&mut self.tokens);
            put_b_varchar(&column.name, &mut self.tokens);
        }
        self.flush_full()
    }

    /// A row. If a value does not fit its type, nothing of the row is sent.
    pub(crate) fn row<'v>(
        &mut self,
        columns: &[ResultColumn],
        mut value: impl FnMut(usize) -> ValueRef<'v>,
    ) -> Result<Result<(), SqlError>, Gone> {
        let begin = self.tokens.len();
        self.tokens.put_u8(0xD1);
        for (index, column) in columns.iter().enumerate() {
            if let Err(error) = column.ty.write_value(value(index), &mut self.tokens) {
                self.tokens.truncate(begin);
                return Ok(Err(error));
            }
        }
        self.flush_full()?;
        Ok(Ok(()))
    }

    /// What a procedure returned.
    pub(crate) fn return_status(&mut self, status: i32) {
        self.release(true);
        self.tokens.put_u8(0x79);
        self.tokens.put_i32_le(status);
    }

    /// An output parameter of a procedure.
    pub(crate) fn return_value(&mut self, ordinal: u16, name: &str, value: &TypedValue) -> Result<(), SqlError> {
        self.release(true);
        let mut body = BytesMut::new();
        body.put_u8(0xAC);
        body.put_u16_le(ordinal);
        put_b_varchar(name, &mut body);
        body.put_u8(1);
        body.put_u32_le(0);
        body.put_u16_le(1);
        value.ty.write_info(&mut body);
        value.ty.write_value((&value.value).into(), &mut body)?;
        self.tokens.unsplit(body);
        Ok(())
    }

    /// Ends a procedure; another of the same request may follow.
    pub(crate) fn procedure_done(&mut self, failed: bool, more: bool) {
        self.release(true);
        let status = if failed { DONE_ERROR } else { 0 } | if more { DONE_MORE } else { 0 };
        self.put_done(0xFE, Done { status, verb: 0xE0, rows: 0 });
        self.in_procedure = false;
    }

    /// Ends a batch.
    pub(crate) fn batch_done(&mut self) {
        if self.held.is_none() {
            self.held = Some(Done { status: 0, verb: Verb::Other.code(), rows: 0 });
        }
        self.in_procedure = false;
        self.release(false);
    }

    /// Ends whatever was going on: the client asked for that.
    pub(crate) fn attention_done(&mut self) {
        self.release(true);
        self.put_done(0xFD, Done { status: DONE_ATTENTION, verb: 0, rows: 0 });
    }

    /// Cuts off whole packets and hands them on once a piece is full. Waits for a slow client.
    pub(crate) fn flush_full(&mut self) -> Result<(), Gone> {
        let room = self.packet_size - packet::HEADER;
        while self.tokens.len() > room {
            let body = self.tokens.split_to(room);
            packet::put_packet(PacketType::Reply, self.packet_id, false, &body, &mut self.framed);
            self.packet_id = self.packet_id.wrapping_add(1);
        }
        if self.framed.len() >= PIECE { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> Result<(), Gone> {
        if self.gone {
            return Err(Gone);
        }
        let Some(outlet) = &self.outlet else { return Ok(()) };
        if !self.framed.is_empty() && outlet.blocking_send(self.framed.split().freeze()).is_err() {
            self.gone = true;
            return Err(Gone);
        }
        Ok(())
    }

    /// Ends the message. What was not sent yet is returned, for an answer that was kept.
    pub(crate) fn finish(mut self) -> Bytes {
        // A client that is gone will not miss the rest.
        let _ = self.flush_full();
        packet::put_packet(PacketType::Reply, self.packet_id, true, &self.tokens, &mut self.framed);
        if self.outlet.is_some() {
            let _ = self.hand_on();
        }
        self.framed.split().freeze()
    }
}

/// Text with a length of one byte, in UTF-16 units; cut off where it does not fit.
fn put_b_varchar(text: &str, out: &mut BytesMut) {
    let units: Vec<u16> = text.encode_utf16().take(usize::from(u8::MAX)).collect();
    out.put_u8(u8::try_from(units.len()).expect("no more were taken"));
    for unit in units {
        out.put_u16_le(unit);
    }
}

/// The longest message of an ERROR or INFO token; the token's own length has two bytes.
const MAX_MESSAGE_UNITS: usize = 8000;

fn put_us_varchar(text: &str, out: &mut BytesMut) {
    let units: Vec<u16> = text.encode_utf16().take(MAX_MESSAGE_UNITS).collect();
    out.put_u16_le(u16::try_from(units.len()).expect("no more were taken"));
    for unit in units {
        out.put_u16_le(unit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(response: Response) -> Vec<u8> {
        response.finish()[packet::HEADER..].to_vec()
    }

    #[test]
    fn only_the_last_done_says_that_nothing_follows() {
        let mut response = Response::kept("here", 4096);
        response.done(Verb::Insert, Some(2));
        response.done(Verb::Select, None);
        response.batch_done();
        let bytes = tokens(response);
        assert_eq!(bytes.len(), 26);
        assert_eq!(bytes[..4], [0xFD, 0x11, 0, 0xC3]);
        assert_eq!(bytes[13..17], [0xFD, 0, 0, 0xC1]);
    }

    #[test]
    fn a_batch_of_nothing_still_ends() {
        let mut response = Response::kept("here", 4096);
        response.batch_done();
        assert_eq!(tokens(response)[..3], [0xFD, 0, 0]);
    }

    #[test]
    fn a_long_answer_is_cut_into_packets_of_the_agreed_size() {
        let mut response = Response::kept("here", 512);
        let columns = [ResultColumn { name: "x".into(), ty: SqlType::Int, nullable: true, identity: false }];
        response.columns(&columns).expect("nobody is gone");
        for number in 0..500 {
            response.row(&columns, |_| ValueRef::Integer(number)).expect("nobody is gone").expect("it fits");
        }
        response.batch_done();
        let bytes = response.finish();
        let mut rest = &bytes[..];
        let mut last = 0;
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            assert!(length <= 512, "a packet of {length} bytes");
            last = rest[1];
            rest = &rest[length..];
        }
        assert_eq!(last, 1);
    }

    #[test]
    fn a_row_with_a_value_that_does_not_fit_leaves_no_trace() {
        let mut response = Response::kept("here", 4096);
        let columns = [ResultColumn { name: "x".into(), ty: SqlType::TinyInt, nullable: true, identity: false }];
        let error = response.row(&columns, |_| ValueRef::Integer(256)).expect("nobody is gone").expect_err("it does not fit");
        assert_eq!(error.number, 8115);
        assert!(tokens(response).is_empty());
    }
}
