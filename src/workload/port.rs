//! From which port a connection leaves: the next one in turn, so that none is used twice within minutes.
//!
//! Where a Service leads is remembered for each pair of address and port that a connection leaves from. Of one that never came to be (its pod was gone) Kubernetes'
//! nodes remember it for two minutes (`nf_conntrack_tcp_timeout_syn_sent`), and whatever leaves from the same port meanwhile is led to the pod that is gone. The
//! kernel chooses ports at random and meets one again in less than a minute at the rate of our probes: a service that is back would look as if it lost a connection
//! now and then, long after the fault, and a later trial would be blamed on an earlier one.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// The ports that Linux itself takes for outgoing connections, unless it is told otherwise.
const FIRST: u32 = 32_768;
const COUNT: u32 = 60_999 - FIRST + 1;
/// How many ports in a row may be taken by others, before the choice is left to the kernel.
const TRIES: u32 = 64;

/// The turn of this process. It begins anywhere, so that two processes do not go side by side.
static TURN: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(fastrand::u32(..COUNT)));

/// Connects to the first address of this host that takes a connection.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = None;
    for address in lookup_host((host, port)).await? {
        match connect_to(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(ErrorKind::NotFound, format!("`{host}` has no address"))))
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    for _ in 0..TRIES {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        match socket.bind(SocketAddr::new(any, next())) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AddrInUse => continue,
            // Whatever is wrong with choosing, the kernel may choose.
            Err(_) => break,
        }
        match socket.connect(address).await {
            // A connection between the same two ports has ended a moment ago.
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) => {}
            connected => return connected,
        }
    }
    TcpStream::connect(address).await
}

fn next() -> u16 {
    let turn = TURN.fetch_add(1, Ordering::Relaxed) % COUNT;
    u16::try_from(FIRST + turn).expect("it is below 65,536")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn no_port_is_used_again_soon() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut used = BTreeSet::new();
        for _ in 0..500 {
            let (near, far) = tokio::join!(connect("127.0.0.1", port), listener.accept());
            let from = near.unwrap().local_addr().unwrap().port();
            assert_eq!(far.unwrap().1.port(), from);
            assert!(used.insert(from), "{from} was used a moment ago");
        }
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert_eq!(connect("127.0.0.1", port).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
