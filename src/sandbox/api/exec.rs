//! `pods/exec`: a command in a container that runs, its streams over a WebSocket.
//!
//! Each message is one byte for the channel and then its bytes: 0 is stdin, 1 stdout, 2 stderr, 3 the `Status` with the exit code, which comes last. With
//! `v5.channel.k8s.io` a client can close its stdin: channel 255 with the number of the channel that is closed. There is no terminal: `tty` is taken as a wish that
//! cannot be met, and standard error goes with standard output as it would on one.
//!
//! The command gets the environment and the volumes of its container. Since there is one program in the image, ours, any other is answered as a container runtime
//! answers for a program that is not there. The command dies with its container's node, with the connection, and with the sandbox.

use std::{io, sync::Arc, time::Duration};

use axum::{
    extract::{
        FromRequestParts,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    http::request::Parts,
    response::Response,
};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::mpsc,
    time::timeout,
};

use super::{
    super::{
        Cluster,
        containers::Contained,
        kubelet,
        power::State,
        process::{Exit, Process},
        refusal::Refusal,
        store::Key,
    },
    Asked, only_container,
};

/// The forms that we speak, the newest first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// How much of an output is sent at once.
const CHUNK: usize = 16 * 1024;
/// How many messages may wait to be sent: a client that does not read holds up its command, and nobody else.
const BACKLOG: usize = 16;
/// How long the end of a command's output is waited for when it has ended: whoever it started may hold it open.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a client may take to read the last message.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where each stream goes.
mod channel {
    pub(super) const STDIN: u8 = 0;
    pub(super) const STDOUT: u8 = 1;
    pub(super) const STDERR: u8 = 2;
    pub(super) const STATUS: u8 = 3;
    pub(super) const CLOSE: u8 = 255;
}

/// What a client wants to be run.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each of them is a parameter of the request")]
struct Wanted {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// Answers a request to run a command: switches to a WebSocket if it can be tried at all.
pub(super) async fn answer(cluster: &Arc<Cluster>, asked: &Asked, key: &Key, mut head: Parts) -> Result<Response, Refusal> {
    let pod = cluster.store.get(key.kind, &key.namespace, &key.name).ok_or_else(|| Refusal::not_found(key.kind, &key.name))?;
    let container = only_container(&pod, asked.parameter("container"))?;
    let wanted = Wanted {
        command: asked.all("command"),
        stdin: asked.flag("stdin"),
        stdout: asked.flag("stdout"),
        stderr: asked.flag("stderr"),
        tty: asked.flag("tty"),
    };
    if wanted.command.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command for the container"));
    }
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    let found = cluster.containers.find(key, container).filter(|found| found.process.exit().is_none());
    let found = found.ok_or_else(|| Refusal::internal(format!("unable to upgrade connection: container not found (\"{container}\")")))?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &()).await.map_err(|_| {
        let why = "unable to upgrade: the sandbox streams over WebSockets only (kubectl 1.31 or newer, or KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true)";
        Refusal::bad_request(why)
    })?;
    let cluster = cluster.clone();
    Ok(upgrade.protocols(PROTOCOLS).on_upgrade(async move |socket| {
        tokio::select! {
            () = cluster.stopping.cancelled() => {}
            () = serve(&cluster, found, wanted, socket) => {}
        }
    }))
}

/// Runs the command and carries its streams until both are over.
async fn serve(cluster: &Cluster, contained: Contained, wanted: Wanted, socket: WebSocket) {
    let (mut to_client, mut from_client) = socket.split();
    let running = match start(cluster, &contained, &wanted).await {
        Ok(running) => running,
        Err(why) => {
            let status = Refusal::internal(format!("Internal error occurred: error executing command in container: {why}")).status();
            let last = async {
                to_client.send(message(channel::STATUS, status.to_string().as_bytes())).await.ok();
                to_client.send(goodbye()).await.ok();
            };
            timeout(CLOSE_TIMEOUT, last).await.ok();
            return;
        }
    };
    let Running { process, stdin, stdout, stderr } = running;
    let _guard = Guard { cluster, process: process.clone() };
    let (send, mut queue) = mpsc::channel::<Message>(BACKLOG);
    let outputs = async {
        let one = |pipe, channel| read_out(pipe, channel, send.clone());
        tokio::join!(one(stdout, channel::STDOUT), one(stderr, channel::STDERR));
    };
    let command = async {
        tokio::pin!(outputs);
        let exit = tokio::select! {
            exit = process.ended() => {
                timeout(LAST_WORDS, &mut outputs).await.ok();
                exit
            }
            () = &mut outputs => process.ended().await,
        };
        send.send(message(channel::STATUS, status(&exit).to_string().as_bytes())).await.ok();
        send.send(goodbye()).await.ok();
    };
    let sending = async {
        while let Some(message) = queue.recv().await {
            let is_last = matches!(message, Message::Close(_));
            if to_client.send(message).await.is_err() || is_last {
                return;
            }
        }
    };
    let receiving = async {
        let mut stdin = stdin;
        while let Some(Ok(received)) = from_client.next().await {
            match received {
                Message::Binary(bytes) => take_in(&mut stdin, &bytes).await,
                Message::Text(text) => take_in(&mut stdin, text.as_bytes()).await,
                Message::Close(_) => return,
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    };
    tokio::select! {
        // The client is gone: so is its command, by the guard.
        () = receiving => {}
        // Sent to the end, or nobody takes it any more.
        () = async { tokio::join!(command, sending); } => {}
    }
}

/// Writes what came for the standard input; closes it if that is what came.
async fn take_in(stdin: &mut Option<pipe::Sender>, received: &[u8]) {
    match received.split_first() {
        Some((&channel::STDIN, bytes)) => {
            if let Some(pipe) = stdin
                && pipe.write_all(bytes).await.is_err()
            {
                // Nobody reads it any more.
                *stdin = None;
            }
        }
        Some((&channel::CLOSE, [channel::STDIN])) => *stdin = None,
        // The size of a terminal, of which there is none.
        _ => {}
    }
}

async fn read_out(pipe: Option<pipe::Receiver>, channel: u8, send: mpsc::Sender<Message>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; CHUNK];
    while let Ok(read) = pipe.read(&mut buffer).await {
        if read == 0 || send.send(message(channel, &buffer[..read])).await.is_err() {
            return;
        }
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut framed = BytesMut::with_capacity(bytes.len() + 1);
    framed.put_u8(channel);
    framed.put_slice(bytes);
    Message::Binary(Bytes::from(framed))
}

/// A close in order: without a code, clients take it for a connection that broke.
fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }))
}

/// How a command ended, as clients read it.
fn status(exit: &Exit) -> Value {
    if exit.code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with exit code {}", exit.code),
        "details": { "causes": [{ "reason": "ExitCode", "message": exit.code.to_string() }] },
    })
}

/// A command that runs, and our ends of its streams.
struct Running {
    process: Arc<Process>,
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

/// Kills the command when whoever asked for it is gone.
struct Guard<'a> {
    cluster: &'a Cluster,
    process: Arc<Process>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.process.kill_all();
        self.cluster.containers.remove(&self.process);
    }
}

async fn start(cluster: &Cluster, contained: &Contained, wanted: &Wanted) -> Result<Running, String> {
    let failed = |error: io::Error| format!("failed to exec in container: {error}");
    let mut command = kubelet::exec(cluster, contained, &wanted.command).map_err(|why| {
        let id = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        format!(
            "failed to exec in container: failed to start exec \"{id}\": OCI runtime exec failed: exec failed: unable to start container process: {why}"
        )
    })?;
    let mut stdin = None;
    if wanted.stdin {
        let (theirs, ours) = io::pipe().map_err(failed)?;
        command.stdin(theirs);
        stdin = Some(pipe::Sender::from_owned_fd(ours.into()).map_err(failed)?);
    }
    let (mut stdout, mut stderr) = (None, None);
    if wanted.stdout {
        let (ours, theirs) = io::pipe().map_err(failed)?;
        if wanted.tty {
            command.stderr(theirs.try_clone().map_err(failed)?);
        }
        command.stdout(theirs);
        stdout = Some(pipe::Receiver::from_owned_fd(ours.into()).map_err(failed)?);
    }
    if wanted.stderr && !wanted.tty {
        let (ours, theirs) = io::pipe().map_err(failed)?;
        command.stderr(theirs);
        stderr = Some(pipe::Receiver::from_owned_fd(ours.into()).map_err(failed)?);
    }
    let spawner = cluster.spawner().ok_or("the sandbox is stopping")?;
    let _starting = cluster.containers.starting().await;
    if cluster.power.wanted(&contained.node) == Some(State::Off) {
        return Err(format!("node `{}` has no power", contained.node));
    }
    let process = spawner.spawn(command, None).await.map_err(failed)?;
    cluster.containers.add(Contained { process: process.clone(), is_container: false, ..contained.clone() });
    Ok(Running { process, stdin, stdout, stderr })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_told_as_clients_read_it() {
        let exit = |code| Exit { code, signal: None, at: chrono::Utc::now(), instant: std::time::Instant::now() };
        assert_eq!(status(&exit(0))["status"], "Success");
        let failed = status(&exit(3));
        assert_eq!((&failed["reason"], &failed["details"]["causes"][0]["message"]), (&json!("NonZeroExitCode"), &json!("3")));
        assert_eq!(failed["message"], "command terminated with exit code 3");
    }

    #[test]
    fn a_message_begins_with_its_channel() {
        assert_eq!(message(channel::STDERR, b"ab"), Message::Binary(Bytes::from_static(b"\x02ab")));
    }
}
