//! Where a sandbox keeps its volumes and logs.
//!
//! It is a temporary directory, which is removed when the sandbox stops. It is named after the process that made it, by id and start time, and holds
//! a lock for as long as that process lives. So a later sandbox can tell which ones were left behind by a process that was killed, and removes them.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use nix::fcntl::{Flock, FlockArg};

use super::process::tree;

/// What the names of our directories begin with.
const PREFIX: &str = "comeback-sandbox-";
/// The file in it that is locked.
const LOCK: &str = "lock";

/// Why there is no directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It could not be made.
    #[error("could not make the sandbox's directory `{}`: {source}", at.display())]
    Make {
        /// Which.
        at: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A directory that a sandbox has to itself.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Home {
    /// Makes a new one and removes those that were left behind.
    pub(crate) fn make() -> Result<Self, DirectoryError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let failed = |at: &Path, source| DirectoryError::Make { at: at.to_owned(), source };
        let parent = std::env::temp_dir();
        remove_left_behind(&parent);
        let pid = std::process::id();
        let started = i32::try_from(pid).ok().and_then(tree::one).map_or(0, |us| us.started);
        let path = parent.join(format!("{PREFIX}{pid}-{started}-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| failed(&path, error))?;
        let file = File::create(path.join(LOCK)).map_err(|error| failed(&path, error))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| failed(&path, error.into()))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

/// Removes directories of ours whose process is gone. What cannot be removed is somebody else's.
fn remove_left_behind(parent: &Path) {
    // `/proc/self` belongs to whom we act as.
    let (Ok(entries), Ok(us)) = (fs::read_dir(parent), fs::metadata("/proc/self")) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(owner) else { continue };
        // A link could lead anywhere; a directory of another user's is not ours to remove.
        let is_ours = entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == us.uid());
        if is_ours && !is_alive(owner) && is_unlocked(&entry.path()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// The process, id and start time, that a directory is named after.
fn owner(rest: &str) -> Option<(i32, u64)> {
    let mut parts = rest.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn is_alive((pid, started): (i32, u64)) -> bool {
    tree::one(pid).is_some_and(|process| process.started == started && process.is_live())
}

/// A process in another container may be invisible to us and alive: its lock is seen all the same.
fn is_unlocked(directory: &Path) -> bool {
    match File::open(directory.join(LOCK)) {
        Ok(file) => Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok(),
        // Killed before it had made one.
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let pid = std::process::id();
        let started = tree::one(i32::try_from(pid).unwrap()).unwrap().started;
        let ours = make(&format!("{PREFIX}{pid}-{started}-0"));
        let earlier = make(&format!("{PREFIX}{pid}-{}-0", started - 1));
        let dead = make(&format!("{PREFIX}999999999-1-0"));
        let others = make("something-else");
        let locked = make(&format!("{PREFIX}999999998-1-0"));
        let lock = Flock::lock(File::create(locked.join(LOCK)).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        remove_left_behind(parent.path());
        assert!(ours.exists() && others.exists() && locked.exists());
        assert!(!earlier.exists(), "the id is ours, the start time is not");
        assert!(!dead.exists());
        drop(lock);
        remove_left_behind(parent.path());
        assert!(!locked.exists());
    }

    #[test]
    fn a_directory_goes_with_its_sandbox() {
        let home = Home::make().unwrap();
        let path = home.path().to_owned();
        assert!(path.is_dir());
        drop(home);
        assert!(!path.exists());
    }
}
