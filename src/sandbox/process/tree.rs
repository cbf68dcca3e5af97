//! Which processes there are, from `/proc`.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A process as `/proc/<pid>/stat` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    /// Its id.
    pub(crate) pid: i32,
    /// Its parent's id.
    pub(crate) parent: i32,
    /// Its group's id.
    pub(crate) group: i32,
    /// The kernel's name of it.
    pub(crate) comm: String,
    /// When it was started, in ticks since boot: with the id, this names a process for good.
    pub(crate) started: u64,
    /// The kernel's letter for its state.
    pub(crate) state: char,
}

impl Running {
    /// Whether it still runs: a zombie does not.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// All processes that we can see.
pub(crate) fn all() -> Vec<Running> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(one).collect()
}

/// The process with that id.
pub(crate) fn one(pid: i32) -> Option<Running> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The process `first`, its descendants, and whoever is in its group; parents before children.
pub(crate) fn members(first: i32) -> Vec<Running> {
    members_of(first, all())
}

fn members_of(first: i32, mut all: Vec<Running>) -> Vec<Running> {
    let mut members = Vec::new();
    let mut known = vec![first];
    loop {
        let (found, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| one.pid == first || one.group == first || known.contains(&one.parent));
        all = rest;
        if found.is_empty() {
            return members;
        }
        known.extend(found.iter().map(|one| one.pid));
        members.extend(found);
    }
}

/// Sends a signal to a process if it is still the one that was seen; says whether it was sent.
pub(crate) fn signal(seen: &Running, signal: Signal) -> bool {
    one(seen.pid).is_some_and(|now| now.started == seen.started) && kill(Pid::from_raw(seen.pid), signal).is_ok()
}

fn parse(stat: &str) -> Option<Running> {
    // The name is in brackets and may itself hold brackets and spaces: the last one closes it.
    let (pid, rest) = stat.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Running {
        pid: pid.parse().ok()?,
        comm: comm.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_in_the_list() {
        let us = i32::try_from(std::process::id()).unwrap();
        let found = all().into_iter().find(|one| one.pid == us).unwrap();
        assert_eq!(found.started, one(us).unwrap().started);
        assert!(found.is_live());
    }

    #[test]
    fn a_name_may_hold_brackets_and_spaces() {
        let stat = "12 (a) (b c) S 3 4 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0";
        let read = parse(stat).unwrap();
        assert_eq!((read.pid, read.comm.as_str(), read.state), (12, "a) (b c", 'S'));
        assert_eq!((read.parent, read.group, read.started), (3, 4, 777));
    }

    #[test]
    fn members_are_the_first_its_descendants_and_its_group() {
        let running = |pid, parent, group| Running { pid, parent, group, comm: String::new(), started: 0, state: 'S' };
        let all =
            vec![running(1, 0, 1), running(10, 1, 10), running(12, 11, 12), running(11, 10, 10), running(13, 1, 10), running(20, 1, 20)];
        assert_eq!(members_of(10, all).iter().map(|one| one.pid).collect::<Vec<_>>(), [10, 11, 13, 12]);
    }
}
