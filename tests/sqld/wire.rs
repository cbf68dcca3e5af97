//! A client that speaks TDS byte by byte, for what a proper client never does.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::server::{DEADLINE, PASSWORD};

/// The type of a batch.
const BATCH: u8 = 1;
/// The type of a remote procedure call.
const CALL: u8 = 3;
/// The number of `sp_executesql`.
const EXECUTE_SQL: u16 = 10;
/// The type of an attention.
const ATTENTION: u8 = 6;
/// The last packet of a message.
pub(crate) const END: u8 = 0x01;
/// The session is to be as new.
pub(crate) const RESET: u8 = 0x08;
/// The session is to be as new, but for its transaction.
pub(crate) const RESET_KEEP_TRANSACTION: u8 = 0x10;
/// The length of a DONE token without its first byte.
const DONE: usize = 12;
/// The status of a DONE that is not the last.
const MORE: u8 = 0x01;

/// A connection that is logged in.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Logs in without encryption.
    pub(crate) fn connect(address: SocketAddr, database: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("it is a TCP stream");
        let mut wire = Self { stream };
        wire.send(0x12, END, &[1, 0, 6, 0, 1, 0xFF, 2]);
        wire.answer();
        let mut fixed = vec![0; 94];
        fixed[4..8].copy_from_slice(&0x7400_0004_u32.to_le_bytes());
        fixed[8..12].copy_from_slice(&4096_u32.to_le_bytes());
        let mut texts = Vec::new();
        for (index, text) in [(0, "tests"), (1, "sa"), (2, PASSWORD), (8, database)] {
            let at = 36 + 4 * index;
            let place = u16::try_from(94 + texts.len()).expect("it is short");
            let length = u16::try_from(text.len()).expect("it is short");
            fixed[at..at + 2].copy_from_slice(&place.to_le_bytes());
            fixed[at + 2..at + 4].copy_from_slice(&length.to_le_bytes());
            let hidden = |byte: u8| if index == 2 { byte.rotate_left(4) ^ 0xA5 } else { byte };
            texts.extend(units(text).into_iter().map(hidden));
        }
        fixed.extend(texts);
        wire.send(0x10, END, &fixed);
        assert!(!is_error(&wire.answer()), "the login is accepted");
        wire
    }

    fn send(&mut self, kind: u8, status: u8, body: &[u8]) {
        let [high, low] = u16::try_from(8 + body.len()).expect("it fits a packet").to_be_bytes();
        let mut packet = vec![kind, status, high, low, 0, 0, 1, 0];
        packet.extend(body);
        self.stream.write_all(&packet).expect("the server reads");
    }

    /// Sends a batch and does not wait for its answer.
    pub(crate) fn batch(&mut self, status: u8, text: &str) {
        self.send(BATCH, status, &[headers(), units(text)].concat());
    }

    /// Sends a text as a call of `sp_executesql`.
    pub(crate) fn call(&mut self, text: &str) {
        let text = units(text);
        let length = u16::try_from(text.len()).expect("it is short").to_le_bytes();
        let [low, high] = EXECUTE_SQL.to_le_bytes();
        let head = [0xFF, 0xFF, low, high, 0, 0, 0, 0, 0xE7, 0x40, 0x1F, 9, 4, 0xD0, 0, 0x34];
        self.send(CALL, END, &[headers(), head.to_vec(), length.to_vec(), text].concat());
    }

    /// Sends an attention.
    pub(crate) fn attention(&mut self) {
        self.send(ATTENTION, END, &[]);
    }

    /// The next packet of an answer: whether it is the last, and its tokens.
    fn next(&mut self) -> (bool, Vec<u8>) {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).expect("the server answers");
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - header.len()];
        self.stream.read_exact(&mut body).expect("the server answers");
        (header[1] & END != 0, body)
    }

    /// The tokens of the next packet of an answer that has no end yet.
    pub(crate) fn part(&mut self) -> Vec<u8> {
        let (last, tokens) = self.next();
        assert!(!last, "the answer ends");
        tokens
    }

    /// The next whole answer, or the rest of one.
    pub(crate) fn answer(&mut self) -> Vec<u8> {
        let mut tokens = Vec::new();
        loop {
            let (last, body) = self.next();
            tokens.extend(body);
            if last {
                return tokens;
            }
        }
    }

    /// Runs a batch that must succeed.
    pub(crate) fn run(&mut self, text: &str) {
        self.batch(END, text);
        assert!(!is_error(&self.answer()), "`{text}` fails");
    }
}

fn units(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The headers of a request: there is no transaction that it belongs to.
fn headers() -> Vec<u8> {
    let mut bytes: Vec<u8> = [22_u32, 18].iter().flat_map(|number| number.to_le_bytes()).collect();
    bytes.extend([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    bytes
}

/// The status of an answer's last DONE, which must be the only one that says that nothing follows. Rows are not understood here.
fn status(answer: &[u8]) -> u8 {
    let mut rest = answer;
    let mut last = None;
    while let Some((&token, body)) = rest.split_first() {
        assert!(last.is_none_or(|status| status & MORE != 0), "after the last DONE comes {rest:x?}");
        let length = match token {
            0xFD..=0xFF => DONE,
            0x79 => 4,
            0xAA | 0xAB | 0xAD | 0xE3 => 2 + usize::from(u16::from_le_bytes([body[0], body[1]])),
            other => panic!("token {other:x} is not expected in an answer without rows"),
        };
        if matches!(token, 0xFD..=0xFF) {
            last = Some(body[0]);
        }
        rest = &body[length..];
    }
    let last = last.expect("an answer has a DONE");
    assert_eq!(last & MORE, 0, "the last DONE says that more follows");
    last
}

/// Whether an answer ends with an error.
pub(crate) fn is_error(answer: &[u8]) -> bool {
    status(answer) & 0x02 != 0
}

/// Whether an answer acknowledges an attention.
pub(crate) fn is_attention(answer: &[u8]) -> bool {
    status(answer) & 0x20 != 0
}
