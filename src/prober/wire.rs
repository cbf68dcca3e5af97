//! Lines of JSON over anything that bytes go through.

use std::{future::Future, io};

use bytes::BytesMut;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf};
use tokio_util::codec::{Decoder, FramedRead, LinesCodec, LinesCodecError};

/// The longest line: a chunk of rows takes a fifth of a megabyte.
const LONGEST_LINE: usize = 8 << 20;

/// Opens byte streams to a prober.
pub trait Dial: Send + 'static {
    /// What it opens.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens one; the caller has a deadline for it.
    fn dial(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// A prober that listens at an address of this machine.
impl Dial for std::net::SocketAddr {
    type Stream = tokio::net::TcpStream;

    async fn dial(&self) -> io::Result<Self::Stream> {
        let stream = tokio::net::TcpStream::connect(self).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Whole lines alone: what a broken connection leaves of one is the break, not a line.
#[derive(Debug)]
pub(super) struct WholeLines(LinesCodec);

impl Decoder for WholeLines {
    type Item = String;
    type Error = LinesCodecError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<String>, LinesCodecError> {
        self.0.decode(bytes)
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> Result<Option<String>, LinesCodecError> {
        match self.0.decode(bytes)? {
            None if bytes.is_empty() => Ok(None),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection broke in the middle of a line").into()),
            line => Ok(line),
        }
    }
}

/// The lines of a stream.
pub(super) type Lines<S> = FramedRead<ReadHalf<S>, WholeLines>;

pub(super) fn lines<S: AsyncRead>(half: ReadHalf<S>) -> Lines<S> {
    FramedRead::new(half, WholeLines(LinesCodec::new_with_max_length(LONGEST_LINE)))
}

/// Reads a line.
pub(super) fn parse<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| format!("{error}: `{}`", line.chars().take(200).collect::<String>()))
}

/// Writes a line.
pub(super) async fn send(half: &mut (impl AsyncWrite + Unpin), frame: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(frame)?;
    line.push(b'\n');
    half.write_all(&line).await?;
    half.flush().await
}
