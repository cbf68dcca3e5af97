//! The control stream: an echo within this process, on the loopback interface.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::Finding;
use crate::event::{AttemptError, Outcome, Stage};

const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// A server that sends back the one byte that it gets.
#[derive(Debug)]
pub(super) struct Echo {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Echo {
    pub(super) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            loop {
                let Ok((mut peer, _)) = listener.accept().await else {
                    // Out of descriptors, most likely: who wanted to connect sees it.
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                };
                tokio::spawn(async move {
                    let mut byte = [0];
                    if peer.read_exact(&mut byte).await.is_ok() {
                        let _ = peer.write_all(&byte).await;
                    }
                });
            }
        });
        Ok(Self { address, task })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn stop(self) {
        drop(self);
    }
}

/// Also when the stream that asks it is cut short.
impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends one byte on a new connection and waits for it.
pub(super) async fn attempt(address: SocketAddr, deadline: Instant) -> Finding {
    let echo = async {
        let mut peer = TcpStream::connect(address).await?;
        let mut byte = [1];
        peer.write_all(&byte).await?;
        peer.read_exact(&mut byte).await?;
        std::io::Result::Ok(())
    };
    let text = match timeout_at(deadline, echo).await {
        Ok(Ok(())) => return (Outcome::Acknowledged, None, None),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer within the deadline".to_owned(),
    };
    (Outcome::Refused, None, Some(AttemptError { stage: Stage::Connect, code: None, text }))
}
