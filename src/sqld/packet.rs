//! Packets and messages: the framing under everything else.
//!
//! A message is one or more packets of one type, each with a header of eight bytes; the last one is marked. [`MessageReader`] puts messages
//! together and can be dropped between any two bytes, so that a connection can listen for an attention while it writes.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The length of a packet's header.
pub(crate) const HEADER: usize = 8;
/// The packet size until a login asks for another.
pub(crate) const DEFAULT_PACKET: usize = 4096;
/// The smallest and the largest packet that a login may ask for.
pub(crate) const PACKET_SIZES: std::ops::RangeInclusive<usize> = 512..=32_767;
/// The longest message that is taken; SQL Server's own limit for a batch is 65,536 packets.
const MAX_MESSAGE: usize = 64 << 20;
/// Marks the last packet of a message.
const END_OF_MESSAGE: u8 = 0x01;
/// Asks that the session be as new before the request is done.
const RESET: u8 = 0x08;
/// As [`RESET`], but keeps the transaction.
const RESET_KEEP_TRANSACTION: u8 = 0x10;

/// The types of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketType {
    /// A batch of SQL text.
    Batch,
    /// A remote procedure call.
    Rpc,
    /// What the server answers.
    Reply,
    /// Stop what you are doing.
    Attention,
    /// Rows of a bulk load.
    BulkLoad,
    /// A request to the transaction manager.
    Transaction,
    /// The login record.
    Login,
    /// A step of a Windows login.
    Sspi,
    /// Before the login: what both sides can do, and the TLS handshake.
    PreLogin,
}

impl PacketType {
    /// The type's byte.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::Rpc => 3,
            Self::Reply => 4,
            Self::Attention => 6,
            Self::BulkLoad => 7,
            Self::Transaction => 14,
            Self::Login => 16,
            Self::Sspi => 17,
            Self::PreLogin => 18,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Batch,
            3 => Self::Rpc,
            4 => Self::Reply,
            6 => Self::Attention,
            7 => Self::BulkLoad,
            14 => Self::Transaction,
            16 => Self::Login,
            17 => Self::Sspi,
            18 => Self::PreLogin,
            _ => return None,
        })
    }
}

/// Whether the session must be as new before a request is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// It stays as it is.
    No,
    /// It must, and what is open is rolled back.
    All,
    /// It must, but keeps its transaction.
    KeepTransaction,
}

impl Reset {
    const fn from_status(status: u8) -> Self {
        if status & RESET_KEEP_TRANSACTION != 0 {
            Self::KeepTransaction
        } else if status & RESET != 0 {
            Self::All
        } else {
            Self::No
        }
    }
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its type.
    pub(crate) kind: PacketType,
    /// Whether the session must be as new first.
    pub(crate) reset: Reset,
    /// Its bytes, without headers.
    pub(crate) body: Bytes,
}

/// Puts messages together from what a stream brings.
#[derive(Debug, Default)]
pub(crate) struct MessageReader {
    buffer: BytesMut,
    begun: Option<(PacketType, Reset)>,
    body: BytesMut,
}

impl MessageReader {
    /// The next message; `None`: the stream ended between two.
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if stream.read_buf(&mut self.buffer).await? == 0 {
                let clean = self.buffer.is_empty() && self.begun.is_none();
                return if clean { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Whether bytes were read that belong to no message yet.
    pub(crate) fn has_rest(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn take(&mut self) -> io::Result<Option<Message>> {
        loop {
            let Some(header) = self.buffer.get(..HEADER) else { return Ok(None) };
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let kind = PacketType::from_code(header[0]).ok_or_else(|| invalid(format!("unknown packet type {}", header[0])))?;
            let status = header[1];
            if length < HEADER {
                return Err(invalid(format!("a packet claims a length of {length} bytes")));
            }
            if self.buffer.len() < length {
                return Ok(None);
            }
            let mut packet = self.buffer.split_to(length);
            packet.advance(HEADER);
            let (begun, reset) = *self.begun.get_or_insert((kind, Reset::from_status(status)));
            if begun != kind {
                return Err(invalid(format!("a message of type {begun:?} goes on with a packet of type {kind:?}")));
            }
            if self.body.len() + packet.len() > MAX_MESSAGE {
                return Err(invalid(format!("a message is longer than {MAX_MESSAGE} bytes")));
            }
            self.body.unsplit(packet);
            if status & END_OF_MESSAGE != 0 {
                self.begun = None;
                return Ok(Some(Message { kind, reset, body: self.body.split().freeze() }));
            }
        }
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Appends one packet to `out`.
pub(crate) fn put_packet(kind: PacketType, id: u8, last: bool, body: &[u8], out: &mut BytesMut) {
    out.reserve(HEADER + body.len());
    out.put_u8(kind.code());
    out.put_u8(if last { END_OF_MESSAGE } else { 0 });
    out.put_u16(u16::try_from(HEADER + body.len()).expect("a packet is no longer than the largest packet size"));
    out.put_u16(0);
    out.put_u8(id);
    out.put_u8(0);
    out.put_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: PacketType, last: bool, body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        put_packet(kind, 1, last, body, &mut out);
        out
    }

    #[tokio::test]
    async fn a_message_may_come_in_many_packets_and_single_bytes() {
        let mut bytes = packet(PacketType::Batch, false, b"ab");
        bytes.unsplit(packet(PacketType::Batch, true, b"c"));
        let (mut near, mut far) = tokio::io::duplex(1);
        let writer = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut far, &bytes).await });
        let mut reader = MessageReader::default();
        let message = reader.next(&mut near).await.expect("it is well formed").expect("it is whole");
        assert_eq!((message.kind, &message.body[..]), (PacketType::Batch, &b"abc"[..]));
        assert_eq!(reader.next(&mut near).await.expect("the end is clean"), None);
        writer.await.expect("it runs").expect("it writes");
    }

    #[tokio::test]
    async fn two_messages_in_one_read_are_two() {
        let mut bytes = packet(PacketType::Batch, true, b"a");
        bytes.unsplit(packet(PacketType::Attention, true, b""));
        let mut stream = &bytes[..];
        let mut reader = MessageReader::default();
        assert_eq!(reader.next(&mut stream).await.expect("well formed").expect("whole").kind, PacketType::Batch);
        assert_eq!(reader.next(&mut stream).await.expect("well formed").expect("whole").kind, PacketType::Attention);
    }

    #[tokio::test]
    async fn a_packet_shorter_than_its_header_is_refused() {
        let mut stream = &[1_u8, 1, 0, 3, 0, 0, 0, 0][..];
        let error = MessageReader::default().next(&mut stream).await.expect_err("it cannot be");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_packet_is_an_error() {
        let mut stream = &[1_u8, 1, 0, 30][..];
        let error = MessageReader::default().next(&mut stream).await.expect_err("it is cut short");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
