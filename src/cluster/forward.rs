//! A port of a pod, through the API server and the node's kubelet.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use k8s_openapi::api::core::v1::Pod;
use kube::api::Portforwarder;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, copy_bidirectional},
    net::TcpListener,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Cluster, ClusterError};

impl Cluster {
    /// Opens a connection to a port of a pod.
    pub async fn forward(&self, pod: &str, port: u16) -> Result<Forwarded, ClusterError> {
        let ports = [port];
        let mut forwarder = self.call(format!("forward a port to pod `{pod}`"), self.namespaced::<Pod>().portforward(pod, &ports)).await?;
        let stream = forwarder.take_stream(port).expect("the port was asked for");
        Ok(Forwarded { stream, forwarder })
    }
}

/// Takes one connection on this machine's loopback and leads it on, for a client that wants an address.
///
/// # Errors
/// If no port is free.
pub async fn on_loopback(forwarded: Forwarded) -> io::Result<Led> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let task = tokio::spawn(async move {
        let mut forwarded = forwarded;
        if let Ok((mut near, _)) = listener.accept().await {
            // How it ends is the client's to tell.
            let _ = copy_bidirectional(&mut near, &mut forwarded).await;
        }
    });
    Ok(Led { port, _task: AbortOnDropHandle::new(task) })
}

/// A port of this machine's loopback that leads into a pod, until this is dropped.
#[derive(Debug)]
pub struct Led {
    /// Which.
    pub port: u16,
    _task: AbortOnDropHandle<()>,
}

/// A forwarded port; its web socket ends with it.
pub struct Forwarded {
    stream: DuplexStream,
    forwarder: Portforwarder,
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        // By itself it would wait for the API server to say goodbye.
        self.forwarder.abort();
    }
}

impl AsyncRead for Forwarded {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarded").finish_non_exhaustive()
    }
}
