//! The loopback addresses of one sandbox.
//!
//! Every sandbox has a /24 of its own inside 127.0.0.0/8, so that several run side by side on one machine, each with SQL Server's own port on every
//! address. The range is claimed by a socket bound in it, which the kernel gives up when the process ends, however it ends. Addresses are handed
//! out in turn and come back at the end of the queue: one that was just given up is the last to be used again, as in a real cluster.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    sync::Mutex,
};

/// Where the claim on a range is made: `127.x.y.1`, this UDP port.
const CLAIM_PORT: u16 = 47_113;
/// The port of the workload on every address: SQL Server's. Whoever listens on it everywhere would be taken for the workload.
const WORKLOAD_PORT: u16 = 1433;
/// How many ranges are tried before giving up. Only a machine full of sandboxes gets near it.
const CLAIM_ATTEMPTS: u32 = 256;
/// Nodes have `.2` to `.31`, the control plane first.
const NODES: std::ops::RangeInclusive<u8> = 2..=31;
/// Services have `.32` to `.63`.
const SERVICES: std::ops::RangeInclusive<u8> = 32..=63;
/// Pods have the rest.
const PODS: std::ops::RangeInclusive<u8> = 64..=254;

/// Why a range could not be had.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Every range tried was taken.
    #[error("could not claim a range of loopback addresses: {CLAIM_ATTEMPTS} ranges were tried and all are taken; stop other sandboxes")]
    AllTaken,
    /// The kernel does not let us.
    #[error("could not claim a range of loopback addresses at `{at}`: {source}")]
    Refused {
        /// The address of the claim.
        at: Ipv4Addr,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody has the workload's port on every address.
    #[error(
        "could not listen on port {port} of `{at}`, in the range of loopback addresses that was claimed: {source} (hint: another program listens on \
         port {port} of every address, and clients would take it for the workload; stop it, or let it listen on an address of its own, such as \
         `127.0.0.1:{port}`)"
    )]
    PortTaken {
        /// The workload's port.
        port: u16,
        /// The address that was tried.
        at: Ipv4Addr,
        /// Why.
        source: std::io::Error,
    },
}

/// Makes sure that nobody listens on that port of every address. `at` is ours alone.
fn check_port(at: Ipv4Addr, port: u16) -> Result<(), NetworkError> {
    TcpListener::bind((at, port)).map(drop).map_err(|source| NetworkError::PortTaken { port, at, source })
}

/// A claimed range and what is free in it.
#[derive(Debug)]
pub(crate) struct Network {
    prefix: [u8; 3],
    services: Mutex<VecDeque<u8>>,
    pods: Mutex<VecDeque<u8>>,
    /// Holds the range as long as it is open.
    _claim: UdpSocket,
}

impl Network {
    /// Claims a range that nobody has.
    pub(crate) fn claim() -> Result<Self, NetworkError> {
        for _ in 0..CLAIM_ATTEMPTS {
            // Not 127.0.0.x, where everything else lives, and not 127.0.1.x, which distributions give to the host name.
            let prefix = [127, fastrand::u8(1..=254), fastrand::u8(0..=255)];
            let at = Ipv4Addr::new(prefix[0], prefix[1], prefix[2], 1);
            match UdpSocket::bind((at, CLAIM_PORT)) {
                Ok(claim) => {
                    check_port(at, WORKLOAD_PORT)?;
                    return Ok(Self { prefix, services: Mutex::new(SERVICES.collect()), pods: Mutex::new(PODS.collect()), _claim: claim });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(source) => return Err(NetworkError::Refused { at, source }),
            }
        }
        Err(NetworkError::AllTaken)
    }

    /// The range, as `127.12.34.0/24`.
    pub(crate) fn range(&self) -> String {
        format!("{}/24", self.address(0))
    }

    /// The range that pods have their addresses from is the sandbox's whole range: this is what nodes report.
    pub(crate) fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, last)
    }

    /// The address of the node with that number; the control plane is 0.
    pub(crate) fn node(&self, number: u8) -> Option<Ipv4Addr> {
        let last = NODES.start().checked_add(number)?;
        NODES.contains(&last).then(|| self.address(last))
    }

    /// An address for a pod, if one is free.
    pub(crate) fn take_pod(&self) -> Option<Ipv4Addr> {
        let last = self.pods.lock().expect("no holder of this lock panics").pop_front()?;
        Some(self.address(last))
    }

    /// An address for a service, if one is free.
    pub(crate) fn take_service(&self) -> Option<Ipv4Addr> {
        let last = self.services.lock().expect("no holder of this lock panics").pop_front()?;
        Some(self.address(last))
    }

    /// That address for a service, if it is one of ours and free.
    pub(crate) fn take_this_service(&self, wanted: Ipv4Addr) -> bool {
        let mut free = self.services.lock().expect("no holder of this lock panics");
        let [a, b, c, last] = wanted.octets();
        let found = ([a, b, c] == self.prefix).then(|| free.iter().position(|free| *free == last)).flatten();
        found.is_some_and(|at| free.remove(at).is_some())
    }

    /// Gives an address back, whatever it was for.
    pub(crate) fn give_back(&self, address: IpAddr) {
        let IpAddr::V4(address) = address else { return };
        let [a, b, c, last] = address.octets();
        if [a, b, c] != self.prefix {
            return;
        }
        let queue = if SERVICES.contains(&last) {
            &self.services
        } else if PODS.contains(&last) {
            &self.pods
        } else {
            return;
        };
        let mut free = queue.lock().expect("no holder of this lock panics");
        if !free.contains(&last) {
            free.push_back(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_networks_have_different_ranges() {
        let (one, two) = (Network::claim().unwrap(), Network::claim().unwrap());
        assert_ne!(one.range(), two.range());
        assert_ne!(one.prefix[1], 0, "127.0.x.y belongs to others");
    }

    #[test]
    fn a_listener_on_every_address_is_named() {
        let network = Network::claim().unwrap();
        let everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let error = check_port(network.address(1), port).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} of every address")), "{error}");
        drop(everywhere);
        check_port(network.address(1), port).unwrap();
    }

    #[test]
    fn an_address_that_was_given_back_is_the_last_to_be_used_again() {
        let network = Network::claim().unwrap();
        let first = network.take_pod().unwrap();
        network.give_back(first.into());
        let others: Vec<_> = std::iter::from_fn(|| network.take_pod()).collect();
        assert_eq!(others.len(), PODS.count());
        assert_eq!(others.last(), Some(&first));
        assert_eq!(network.take_pod(), None);
    }

    #[test]
    fn a_wanted_service_address_is_given_once_and_only_from_our_range() {
        let network = Network::claim().unwrap();
        let wanted = network.address(40);
        assert!(network.take_this_service(wanted));
        assert!(!network.take_this_service(wanted));
        assert!(!network.take_this_service(Ipv4Addr::new(10, 0, 0, 40)));
        assert!(!network.take_this_service(network.address(200)), "that is a pod's");
        network.give_back(wanted.into());
        network.give_back(wanted.into());
        assert_eq!(network.services.lock().unwrap().iter().filter(|last| **last == 40).count(), 1);
    }
}
