//! One connection: pre-login, TLS, login, then requests until it ends.
//!
//! The connection is an async task that only moves bytes; the [`Session`] works on a thread that may block. While the session works, the
//! task sends what it produces (and no more than the client takes) and listens for an attention or the end of the client.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use super::{
    errors::{self, SqlError},
    log,
    login::{Login, LoginError},
    packet::{self, Message, MessageReader, PacketType},
    prelogin::{self, Encryption},
    server::{Instance, Seat},
    session::Session,
    signal::{Cancel, Signal},
    storage::Database,
    tls::{self, Handshake},
    token::{EnvChange, Response},
};

/// A client that has not logged in by then is sent away.
const LOGIN_DEADLINE: Duration = Duration::from_secs(15);
/// How many pieces of an answer may wait for a slow client.
const PIECES_IN_FLIGHT: usize = 8;

/// The stream, encrypted or not.
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<Handshake>>),
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

impl Transport {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await?;
        self.flush().await
    }
}

/// A client that got in.
struct Entered {
    transport: Transport,
    seat: Seat,
    session: Session,
    signal: Arc<Signal>,
    packet_size: usize,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(instance: Arc<Instance>, stream: TcpStream, address: SocketAddr) {
    let entering = timeout(LOGIN_DEADLINE, enter(&instance, stream, address));
    let entered = tokio::select! {
        biased;
        () = instance.stopping.cancelled() => return,
        entered = entering => entered,
    };
    match entered {
        Ok(Ok(Some(entered))) => requests(&instance, entered).await,
        Ok(Ok(None)) => {}
        // Probes connect and leave again; that is not worth a line.
        Ok(Err(error))
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {}
        Ok(Err(error)) => {
            log::error("Logon", 17_836, 20, 17, &format!("{error}; the connection has been closed. [CLIENT: {}]", address.ip()));
        }
        Err(_) => {
            log::line("Logon", &format!("The login did not come in time; the connection has been closed. [CLIENT: {}]", address.ip()));
        }
    }
}

/// Pre-login, TLS and login; `None`: the client was refused, and told so.
async fn enter(instance: &Arc<Instance>, mut stream: TcpStream, address: SocketAddr) -> io::Result<Option<Entered>> {
    stream.set_nodelay(true)?;
    let mut reader = MessageReader::default();
    let Some(hello) = reader.next(&mut stream).await? else { return Ok(None) };
    if hello.kind != PacketType::PreLogin {
        return Err(invalid("the first message is not a pre-login"));
    }
    let agreed = prelogin::agree(&hello.body).ok_or_else(|| invalid("the pre-login message is malformed"))?;
    let mut answer = BytesMut::new();
    packet::put_packet(PacketType::Reply, 1, true, &prelogin::answer(agreed), &mut answer);
    stream.write_all(&answer).await?;
    if reader.has_rest() {
        return Err(invalid("the client did not wait for the answer to its pre-login"));
    }
    let mut transport = match agreed {
        Encryption::Nothing => Transport::Plain(stream),
        Encryption::LoginOnly | Encryption::Everything => Transport::Tls(Box::new(tls::accept(&instance.tls, stream).await?)),
    };
    let Some(record) = reader.next(&mut transport).await? else { return Ok(None) };
    if agreed == Encryption::LoginOnly
        && let Transport::Tls(stream) = transport
    {
        transport = Transport::Plain(stream.into_inner().0.into_inner());
    }
    if record.kind != PacketType::Login {
        return Err(invalid("the client sends something else than a login"));
    }
    let login = match Login::parse(&record.body) {
        Ok(login) => login,
        Err(why @ LoginError::Malformed) => return Err(invalid(&why.to_string())),
        Err(why) => {
            refuse(instance, &mut transport, &[errors::login_failed("")], &why.to_string(), 1, address).await?;
            return Ok(None);
        }
    };
    let database = match admitted(instance, &login) {
        Ok(database) => database,
        Err(refusal) => {
            refuse(instance, &mut transport, &refusal.errors, &refusal.reason, refusal.state, address).await?;
            return Ok(None);
        }
    };
    let packet_size = match usize::try_from(login.packet_size) {
        Ok(0) | Err(_) => packet::DEFAULT_PACKET,
        Ok(size) => size.clamp(*packet::PACKET_SIZES.start(), *packet::PACKET_SIZES.end()),
    };
    let Some(seat) = instance.seat(&login, address, agreed == Encryption::Everything, &database.name) else {
        let error = errors::too_many_connections(super::server::MAX_CONNECTIONS);
        refuse(instance, &mut transport, &[error], "too many connections", 1, address).await?;
        return Ok(None);
    };
    transport.send(&welcome(instance, &login, &database, packet_size)).await?;
    let signal = Signal::new();
    let session = Session::new(Arc::clone(instance), seat.spid, login, packet_size, database, Arc::clone(&signal));
    Ok(Some(Entered { transport, seat, session, signal, packet_size }))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Why a login is refused: what the client is told, and what the log says.
struct Refusal {
    errors: Vec<SqlError>,
    reason: String,
    state: u8,
}

/// The database in which the session begins, if the login may have it.
///
/// A database that does not exist and one that is not recovered yet look the same to a login, as with SQL Server: 4060, then 18456. Only the
/// log tells them apart (state 38).
fn admitted(instance: &Instance, login: &Login) -> Result<Arc<Database>, Refusal> {
    let failed = |reason: String, state| Refusal { errors: vec![errors::login_failed(&login.user)], reason, state };
    match instance.storage.password(&login.user) {
        Ok(Some(stored)) if stored.is(&login.password) => {}
        Ok(Some(_)) => return Err(failed("Password did not match that for the login provided.".to_owned(), 8)),
        Ok(None) => return Err(failed("Could not find a login matching the name provided.".to_owned(), 5)),
        Err(error) => return Err(failed(format!("The login could not be read: {error}."), 1)),
    }
    let name = if login.database.is_empty() { "master" } else { &login.database };
    let missing =
        |reason: String| Refusal { errors: vec![errors::cannot_open_database(name), errors::login_failed(&login.user)], reason, state: 38 };
    match instance.storage.database(name) {
        Some(database) if database.is_online() => Ok(database),
        Some(_) => Err(missing(format!("Failed to open the explicitly specified database '{name}': it is being recovered."))),
        None => Err(missing(format!("Failed to open the explicitly specified database '{name}'."))),
    }
}

async fn refuse(
    instance: &Instance,
    transport: &mut Transport,
    told: &[SqlError],
    reason: &str,
    state: u8,
    address: SocketAddr,
) -> io::Result<()> {
    let mut response = Response::kept(&instance.name, packet::DEFAULT_PACKET);
    for error in told {
        response.error(error, 1);
    }
    response.failed();
    response.batch_done();
    if let Some(last) = told.last() {
        let text = format!("{} Reason: {reason} [CLIENT: {}]", last.message.trim_end_matches('.').to_owned() + ".", address.ip());
        log::error("Logon", last.number, last.class, state, &text);
    }
    transport.send(&response.finish()).await?;
    transport.shutdown().await
}

fn welcome(instance: &Instance, login: &Login, database: &Database, packet_size: usize) -> Bytes {
    let mut response = Response::kept(&instance.name, packet::DEFAULT_PACKET);
    response.env_change(EnvChange::Database("master", &database.name));
    response.info(5701, 2, 0, &format!("Changed database context to '{}'.", database.name), 1);
    response.env_change(EnvChange::Collation);
    response.env_change(EnvChange::Language("us_english"));
    response.info(5703, 1, 0, "Changed language setting to us_english.", 1);
    let [major, minor, build_high, build_low, ..] = prelogin::SERVER_VERSION;
    response.login_ack(login.tds_version, "Microsoft SQL Server", [major, minor, build_high, build_low]);
    response.env_change(EnvChange::PacketSize(packet::DEFAULT_PACKET, packet_size));
    response.batch_done();
    response.finish()
}

/// Requests until the client leaves, an error ends the connection, or the server stops.
async fn requests(instance: &Arc<Instance>, entered: Entered) {
    let Entered { mut transport, seat, mut session, signal, packet_size } = entered;
    let mut reader = MessageReader::default();
    let mut early = None;
    loop {
        let message = if let Some(message) = early.take() {
            message
        } else {
            let message = tokio::select! {
                biased;
                () = instance.stopping.cancelled() => break,
                message = reader.next(&mut transport) => message,
            };
            let Ok(Some(message)) = message else { break };
            message
        };
        if message.kind == PacketType::Attention {
            // Too late: what it was meant for is done. It is acknowledged all the same.
            if transport.send(&attention_reply(instance, packet_size)).await.is_err() {
                break;
            }
            continue;
        }
        let served = request(instance, &mut transport, &mut reader, session, &signal, message, packet_size).await;
        let Some((back, next)) = served else { return };
        (session, early) = (back, next);
    }
    // Rolling back may block.
    let _ = tokio::task::spawn_blocking(move || drop(session)).await;
    drop(seat);
    // The client may be gone already.
    let _ = transport.shutdown().await;
}

fn attention_reply(instance: &Instance, packet_size: usize) -> Bytes {
    let mut response = Response::kept(&instance.name, packet_size);
    response.attention_done();
    response.finish()
}

/// One request. Returned are the session and the next request, if it came before this one was quite over; `None`: the connection is over, and
/// the session with it.
async fn request(
    instance: &Arc<Instance>,
    transport: &mut Transport,
    reader: &mut MessageReader,
    mut session: Session,
    signal: &Arc<Signal>,
    message: Message,
    packet_size: usize,
) -> Option<(Session, Option<Message>)> {
    let (outlet, mut pieces) = mpsc::channel(PIECES_IN_FLIGHT);
    let work = tokio::task::spawn_blocking(move || {
        let ended = session.answer(&message, outlet);
        (session, ended)
    });
    let mut attentions = 0_u32;
    let mut gone = false;
    let mut stopping = false;
    let mut early = None;
    loop {
        tokio::select! {
            piece = pieces.recv() => {
                let Some(piece) = piece else { break };
                if !gone && transport.send(&piece).await.is_err() {
                    gone = true;
                    signal.cancel(Cancel::Gone);
                    pieces.close();
                }
            }
            heard = reader.next(transport), if !gone => match heard {
                Ok(Some(message)) if message.kind == PacketType::Attention => {
                    attentions += 1;
                    // It means all that the client has asked for and has no answer to.
                    early = None;
                    signal.cancel(Cancel::Attention);
                }
                // A quick client has the whole answer before this loop knows that it was the whole.
                Ok(Some(message)) if early.is_none() => early = Some(message),
                // No client asks twice before it is answered.
                Ok(_) | Err(_) => {
                    gone = true;
                    signal.cancel(Cancel::Gone);
                    pieces.close();
                }
            },
            () = instance.stopping.cancelled(), if !stopping => {
                stopping = true;
                signal.cancel(Cancel::Shutdown);
            }
        }
    }
    // A panic on the session's thread has rolled back and taken the session with it.
    let Ok((session, ended)) = work.await else {
        signal.cancel(Cancel::Gone);
        return None;
    };
    if gone || ended.close {
        let _ = tokio::task::spawn_blocking(move || drop(session)).await;
        let _ = transport.shutdown().await;
        return None;
    }
    signal.acknowledge_attention();
    for _ in u32::from(ended.attention)..attentions {
        if transport.send(&attention_reply(instance, packet_size)).await.is_err() {
            let _ = tokio::task::spawn_blocking(move || drop(session)).await;
            return None;
        }
    }
    Some((session, early))
}
