//! TLS, with its handshake inside pre-login packets.
//!
//! TDS 7 wraps the handshake into its own packets and then drops the wrapping. The version is TLS 1.2 and no other, as with SQL Server
//! (which keeps 1.3 for TDS 8, where nothing is wrapped): in 1.3 the client's last flight has no answer to wait for, and FreeTDS 1.3 never sends
//! it, while rustls, GnuTLS and OpenSSL clients all take 1.2 when they are offered nothing else.
//!
//! When the client drops the wrapping is its own affair, so the reading side looks at each record: a pre-login packet begins with 0x12, a
//! TLS record with 0x14 to 0x17. The writing side wraps until the handshake is done.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        server::NoServerSessionStorage,
    },
    server::TlsStream,
};

use super::packet::{self, PacketType};

/// Why no TLS can be offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The certificate could not be made.
    #[error("could not make a certificate for `{host}`: {source}")]
    Certificate {
        /// For whom.
        host: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// TLS does not take it.
    #[error("could not set up TLS: {0}")]
    Setup(rustls::Error),
}

/// Makes a certificate for `host` and offers TLS 1.2 with it.
pub(crate) fn acceptor(host: &str) -> Result<TlsAcceptor, TlsError> {
    let certificate = |source| TlsError::Certificate { host: host.to_owned(), source };
    let made = rcgen::generate_simple_self_signed([host.to_owned(), "localhost".to_owned()])
        .or_else(|_| rcgen::generate_simple_self_signed(["localhost".to_owned()]))
        .map_err(certificate)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .map_err(TlsError::Setup)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Shakes hands inside pre-login packets.
pub(crate) async fn accept(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<Handshake>> {
    let mut stream = acceptor.accept(Handshake::new(stream)).await?;
    stream.get_mut().0.wrapping = false;
    Ok(stream)
}

/// The TCP stream under TLS: wraps and unwraps while the hands are shaken.
#[derive(Debug)]
pub(crate) struct Handshake {
    stream: TcpStream,
    wrapping: bool,
    /// Bytes of a header that was begun, when reading wrapped.
    header: Vec<u8>,
    /// What is left of the packet, or of a raw record's first bytes.
    remaining: usize,
    /// Bytes that were read ahead to look at them.
    ahead: BytesMut,
    /// Whether the client dropped the wrapping.
    raw: bool,
    /// TLS bytes that wait for a flush, then whole packets.
    gathered: BytesMut,
    packets: BytesMut,
}

impl Handshake {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            wrapping: true,
            header: Vec::with_capacity(packet::HEADER),
            remaining: 0,
            ahead: BytesMut::new(),
            raw: false,
            gathered: BytesMut::new(),
            packets: BytesMut::new(),
        }
    }

    /// The TCP stream, once TLS has done its part.
    pub(crate) fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn poll_packets(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.packets.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.packets))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.packets.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Handshake {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The header of a wrapped packet, byte by byte: only the first tells whether there is one.
        while !this.raw && this.remaining == 0 && this.ahead.is_empty() {
            let mut space = [0; packet::HEADER];
            let wanted = if this.header.is_empty() { 1 } else { packet::HEADER - this.header.len() };
            let mut piece = ReadBuf::new(&mut space[..wanted]);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.header.extend_from_slice(piece.filled());
            if this.header[0] != PacketType::PreLogin.code() {
                this.raw = true;
                this.ahead.extend_from_slice(&this.header);
                this.header.clear();
            } else if this.header.len() == packet::HEADER {
                let length = usize::from(u16::from_be_bytes([this.header[2], this.header[3]]));
                this.remaining = length
                    .checked_sub(packet::HEADER)
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a pre-login packet is shorter than its header"))?;
                this.header.clear();
            }
        }
        if !this.ahead.is_empty() {
            let count = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..count]);
            this.ahead.advance(count);
            return Poll::Ready(Ok(()));
        }
        if this.raw {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let wanted = this.remaining.min(buf.remaining());
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(wanted));
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut piece))?;
        let count = piece.filled().len();
        buf.advance(count);
        this.remaining -= count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Handshake {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.wrapping {
            this.gathered.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(this.poll_packets(cx))?;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.gathered.is_empty() {
            let count = this.gathered.len().min(packet::DEFAULT_PACKET - packet::HEADER);
            let body = this.gathered.split_to(count);
            packet::put_packet(PacketType::PreLogin, 0, this.gathered.is_empty(), &body, &mut this.packets);
        }
        ready!(this.poll_packets(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
