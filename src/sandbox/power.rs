//! The power of the nodes: what a power switch is to a machine.
//!
//! Power that is cut takes everything at once: the kubelet writes nothing more, every process of the node is killed, and whoever speaks to an address of the
//! node hears nothing more. The control plane is not told; it finds out by the silence. When power returns, the kubelet starts again and finds its pods as
//! the API has them and its containers gone.
//!
//! # A dead host on loopback
//! The kernel of a dead machine answers nothing, and the one that we run on answers for every loopback address. So it is the service [`proxy`](super::proxy) that
//! keeps the silence: while a node is [dark](Power::is_dark), connections to its pods hang, those that are open as well as new ones, until power returns or the
//! client gives up. Who connects to a pod's own address, past the service, is refused: that is the one difference.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::watch;

/// How long switching may take until it is in force: a kubelet that stops, processes that die, a kubelet that starts.
pub(crate) const SWITCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a node has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It has.
    On,
    /// It has not.
    Off,
}

impl State {
    /// The word in the API.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }

    /// The state that a word means.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        [Self::On, Self::Off].into_iter().find(|state| state.word() == word)
    }
}

/// How a switch is set, and how often it had been set before: so that nobody takes what was in force earlier for what they asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Counted from 0.
    turn: u64,
    /// On or off.
    pub(crate) state: State,
}

/// One node's switch.
#[derive(Debug)]
struct Switch {
    /// How it was last set.
    wanted: watch::Sender<Setting>,
    /// What is in force, as the node's kubelet says.
    actual: watch::Sender<Setting>,
    /// The addresses of the node's pods.
    addresses: BTreeSet<Ipv4Addr>,
}

/// The switches of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Power(Mutex<BTreeMap<String, Switch>>);

/// Why a switch did not come into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotInForce {
    /// Somebody else set it in the meantime.
    SetAgain,
    /// It took longer than [`SWITCH_TIMEOUT`].
    TooLate,
}

/// A switch that was set and may not be in force yet.
#[derive(Debug)]
pub(crate) struct Set {
    setting: Setting,
    actual: watch::Receiver<Setting>,
}

impl Set {
    /// Returns when it is in force.
    pub(crate) async fn in_force(mut self) -> Result<(), NotInForce> {
        let reached = self.actual.wait_for(|actual| actual.turn >= self.setting.turn);
        match tokio::time::timeout(SWITCH_TIMEOUT, reached).await {
            Ok(Ok(actual)) if *actual == self.setting => Ok(()),
            Ok(Ok(_)) => Err(NotInForce::SetAgain),
            Ok(Err(_)) | Err(_) => Err(NotInForce::TooLate),
        }
    }
}

impl Power {
    /// Switches for these nodes, all on.
    pub(crate) fn new(nodes: impl IntoIterator<Item = String>) -> Self {
        let first = Setting { turn: 0, state: State::On };
        let switch = || Switch { wanted: watch::Sender::new(first), actual: watch::Sender::new(first), addresses: BTreeSet::new() };
        Self(Mutex::new(nodes.into_iter().map(|node| (node, switch())).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Switch>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// What is in force at a node; `None` if there is no such machine.
    pub(crate) fn state(&self, node: &str) -> Option<State> {
        self.lock().get(node).map(|switch| switch.actual.borrow().state)
    }

    /// How the switch of a node is set, whether or not that is in force yet; `None` if there is no such machine.
    pub(crate) fn wanted(&self, node: &str) -> Option<State> {
        self.lock().get(node).map(|switch| switch.wanted.borrow().state)
    }

    /// Sets a switch; `None` if there is no such machine. Setting it as it is changes nothing.
    pub(crate) fn set(&self, node: &str, state: State) -> Option<Set> {
        let nodes = self.lock();
        let switch = nodes.get(node)?;
        let before = *switch.wanted.borrow();
        let setting = if before.state == state { before } else { Setting { turn: before.turn + 1, state } };
        switch.wanted.send_replace(setting);
        Some(Set { setting, actual: switch.actual.subscribe() })
    }

    /// For the node's kubelet: how the switch is set.
    pub(crate) fn follow(&self, node: &str) -> watch::Receiver<Setting> {
        self.lock().get(node).expect("every kubelet has a machine").wanted.subscribe()
    }

    /// For the node's kubelet: the switch is in force.
    pub(crate) fn tell(&self, node: &str, setting: Setting) {
        self.lock().get(node).expect("every kubelet has a machine").actual.send_replace(setting);
    }

    /// Takes note that a pod on that node has that address.
    pub(crate) fn add_address(&self, node: &str, address: Ipv4Addr) {
        if let Some(switch) = self.lock().get_mut(node) {
            switch.addresses.insert(address);
        }
    }

    /// The node's pod gave its address up.
    pub(crate) fn remove_address(&self, node: &str, address: Ipv4Addr) {
        if let Some(switch) = self.lock().get_mut(node) {
            switch.addresses.remove(&address);
        }
    }

    /// The node whose pod has that address.
    pub(crate) fn node_of(&self, address: IpAddr) -> Option<String> {
        let IpAddr::V4(address) = address else { return None };
        self.lock().iter().find(|(_, switch)| switch.addresses.contains(&address)).map(|(node, _)| node.clone())
    }

    /// All addresses that pods of that node had when power was cut: whoever starts there gets a new one.
    pub(crate) fn take_addresses(&self, node: &str) -> BTreeSet<Ipv4Addr> {
        self.lock().get_mut(node).map(|switch| std::mem::take(&mut switch.addresses)).unwrap_or_default()
    }

    /// If nobody answers at an address because its node has no power: by what to see that it has power again.
    pub(crate) fn is_dark(&self, address: IpAddr) -> Option<watch::Receiver<Setting>> {
        let IpAddr::V4(address) = address else { return None };
        let nodes = self.lock();
        let switch = nodes.values().find(|switch| switch.addresses.contains(&address))?;
        (switch.wanted.borrow().state == State::Off).then(|| switch.wanted.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_dark_from_the_moment_its_switch_is_set_and_until_it_is_set_back() {
        let power = Power::new(["a".to_owned(), "b".to_owned()]);
        let (here, there) = (Ipv4Addr::new(127, 1, 1, 70), Ipv4Addr::new(127, 1, 1, 71));
        power.add_address("a", here);
        power.add_address("b", there);
        assert!(power.is_dark(here.into()).is_none());
        let off = power.set("a", State::Off).unwrap();
        assert!(power.is_dark(here.into()).is_some() && power.is_dark(there.into()).is_none());
        assert_eq!(power.state("a"), Some(State::On), "the kubelet has not said so yet");
        let wanted = *power.follow("a").borrow();
        power.tell("a", wanted);
        off.in_force().await.unwrap();
        assert_eq!(power.state("a"), Some(State::Off));
        power.set("a", State::On).unwrap();
        assert!(power.is_dark(here.into()).is_none());
        assert_eq!(power.take_addresses("a"), BTreeSet::from([here]));
        assert!(power.set("nosuch", State::Off).is_none());
    }

    #[tokio::test]
    async fn who_is_overtaken_is_told_so_and_who_asks_for_what_is_so_is_not_kept() {
        let power = Power::new(["a".to_owned()]);
        power.set("a", State::On).unwrap().in_force().await.unwrap();
        let (off, on) = (power.set("a", State::Off).unwrap(), power.set("a", State::On).unwrap());
        // The kubelet sees only the last of the two: it never was off.
        let wanted = *power.follow("a").borrow();
        power.tell("a", wanted);
        assert_eq!(off.in_force().await, Err(NotInForce::SetAgain));
        on.in_force().await.unwrap();
    }

    #[test]
    fn a_state_is_read_as_it_is_written() {
        for state in [State::On, State::Off] {
            assert_eq!(State::of_word(state.word()), Some(state));
        }
        assert_eq!(State::of_word("ON"), None);
    }
}
