//! What of this machine belongs to a cluster: the folder of its volumes, and the lock that keeps two commands apart.
//!
//! The folder is mounted into every node, so a volume in it survives any of them. It lies in `/var/tmp`, which everybody may write to, so
//! nothing there is trusted that another user could have put in its place.

use std::{
    fs,
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
};

use super::Name;

/// Where the folders of all clusters are.
const ROOT: &str = "/var/tmp/comeback/kind";
/// Its parts that we make, which all users of this machine share.
const SHARED: [&str; 2] = ["/var/tmp/comeback", ROOT];

/// The mark that the cluster was made to its end.
const MADE: &str = "made.json";
/// The image of the nodes, for whoever has to empty the folder when they are gone.
const NODE_IMAGE: &str = "node-image";

/// How often the lock is tried for while others that end take its folder away.
const TRIES: u32 = 100;

/// Something is wrong with what lies on this machine.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It could not be made, read or removed.
    #[error("could not {what} `{}`", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Somebody else could have put it there.
    #[error("`{}` {why}, so it is not used (hint: look at it, and remove it)", path.display())]
    NotOurs {
        /// What.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another command is at work on this cluster.
    #[error(
        "another `comeback cluster` is at work on `{name}`, or something that it started has not ended yet (lock `{}`; hint: wait for it)",
        path.display()
    )]
    Locked {
        /// The cluster.
        name: Name,
        /// The lock.
        path: PathBuf,
    },
}

/// The folder of a cluster's volumes on this machine.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of this cluster, whether it is there or not.
    #[must_use]
    pub fn of(name: &Name) -> Self {
        Self(Path::new(ROOT).join(name.as_str()))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.0.symlink_metadata().is_ok()
    }

    /// Makes it, with the folders above it.
    ///
    /// # Errors
    /// If something is there that another user could have put there.
    pub fn make(&self) -> Result<(), FolderError> {
        make_shared()?;
        make(&self.0, 0o755, false)
    }

    /// Writes down that the cluster was made to its end.
    pub fn mark_made(&self, facts: &serde_json::Value) -> Result<(), FolderError> {
        let path = self.0.join(MADE);
        fs::write(&path, facts.to_string()).map_err(|source| FolderError::Io { what: "write", path, source })
    }

    /// Whether that was written down.
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.0.join(MADE).is_file()
    }

    /// Takes the mark away, before the cluster is.
    pub fn unmark(&self) -> Result<(), FolderError> {
        let path = self.0.join(MADE);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(FolderError::Io { what: "remove", path, source }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Writes down which image the nodes had, before they are removed.
    pub fn remember_image(&self, image: &str) -> Result<(), FolderError> {
        let path = self.0.join(NODE_IMAGE);
        fs::write(&path, image).map_err(|source| FolderError::Io { what: "write", path, source })
    }

    /// Which image the nodes had, if that was written down.
    #[must_use]
    pub fn remembered_image(&self) -> Option<String> {
        fs::read_to_string(self.0.join(NODE_IMAGE)).ok().map(|image| image.trim().to_owned()).filter(|image| !image.is_empty())
    }

    /// Removes it with all that is in it, and the folders above it if nothing else is in them. That it is not there is no error.
    ///
    /// # Errors
    /// If it cannot: what is in it may belong to another user. See [`is_denied`](FolderError::is_denied).
    pub fn remove(&self) -> Result<(), FolderError> {
        match fs::remove_dir_all(&self.0) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(FolderError::Io { what: "remove", path: self.0.clone(), source });
            }
            Ok(()) | Err(_) => {}
        }
        remove_shared();
        Ok(())
    }
}

/// Makes the folders that all users of this machine share.
fn make_shared() -> Result<(), FolderError> {
    // As `/tmp`: anybody may add to it, and nobody may remove what is another's.
    SHARED.into_iter().try_for_each(|shared| make(Path::new(shared), 0o1777, true))
}

/// Removes them, unless somebody else's clusters are in them.
fn remove_shared() {
    for shared in SHARED.into_iter().rev() {
        let _ = fs::remove_dir(shared);
    }
}

fn who_we_are(path: &Path) -> Result<u32, FolderError> {
    let failed = |source| FolderError::Io { what: "find out who we are, for", path: path.to_owned(), source };
    Ok(fs::metadata("/proc/self").map_err(failed)?.uid())
}

impl FolderError {
    /// Whether another user may do what we may not.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied)
    }
}

fn make(path: &Path, mode: u32, shared: bool) -> Result<(), FolderError> {
    let failed = |what| move |source| FolderError::Io { what, path: path.to_owned(), source };
    match fs::DirBuilder::new().mode(mode).create(path) {
        // The mask of this process must not take anything from it.
        Ok(()) => return fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("set the permissions of")),
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed("make the folder")(error)),
        Err(_) => {}
    }
    let facts = path.symlink_metadata().map_err(failed("look at"))?;
    let not_ours = |why| FolderError::NotOurs { path: path.to_owned(), why };
    if !facts.is_dir() {
        return Err(not_ours("is no folder"));
    }
    // A shared one may be anybody's, as long as nobody can take away what is ours.
    if shared && facts.mode() & 0o1000 != 0 {
        return Ok(());
    }
    if facts.uid() == who_we_are(path)? || facts.uid() == 0 { Ok(()) } else { Err(not_ours("belongs to another user")) }
}

/// Keeps two commands on one cluster apart, until it is dropped.
///
/// What we start inherits it, so it also holds while a `kind` is still at work whose `comeback` was killed: that one would remove, when it fails, the nodes
/// that the next has made.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    // Closing it frees the lock.
    _file: fs::File,
}

impl Lock {
    /// Takes the lock of this cluster.
    ///
    /// # Errors
    /// If another has it; it is not waited for. If another user could have put it there.
    pub fn take(name: &Name) -> Result<Self, FolderError> {
        Self::take_at(name, Self::path(name))
    }

    /// Where it is: the same for everybody, whatever his folder for temporary files. No cluster's folder has a dot in its name.
    fn path(name: &Name) -> PathBuf {
        Path::new(ROOT).join(format!("{name}.lock"))
    }

    fn take_at(name: &Name, path: PathBuf) -> Result<Self, FolderError> {
        let not_ours = |why| FolderError::NotOurs { path: path.clone(), why };
        let failed = |what| {
            let path = path.clone();
            move |source| FolderError::Io { what, path, source }
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let mut options = fs::OpenOptions::new();
            options.create(true).append(true).mode(0o644).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
            let opened = make_shared().and_then(|()| options.open(&path).map_err(failed("open the lock")));
            let mut file = match opened {
                Ok(file) => file,
                // Another command has ended, and taken the folder with it.
                Err(FolderError::Io { source, .. }) if source.kind() == ErrorKind::NotFound && tries < TRIES => continue,
                Err(FolderError::Io { source, .. }) if source.raw_os_error() == Some(Errno::ELOOP as i32) => {
                    return Err(not_ours("is a link"));
                }
                Err(error) => return Err(error),
            };
            let facts = file.metadata().map_err(failed("look at"))?;
            if !facts.is_file() || facts.uid() != who_we_are(&path)? {
                return Err(not_ours("is no lock of this user"));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Err(FolderError::Locked { name: name.clone(), path }),
                Err(fs::TryLockError::Error(source)) => return Err(failed("lock")(source)),
            }
            // The one that had it may have removed it, and a third made another.
            if !path.symlink_metadata().is_ok_and(|there| (there.dev(), there.ino()) == (facts.dev(), facts.ino())) {
                continue;
            }
            // A second name would lead to a file that is not for this.
            if file.metadata().map_err(failed("look at"))?.nlink() != 1 {
                return Err(not_ours("has another name besides"));
            }
            fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|errno| failed("hand on")(errno.into()))?;
            // For those who find it.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            return Ok(Self { path, _file: file });
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still ours.
        let _ = fs::remove_file(&self.path);
        remove_shared();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_lock_is_for_one_and_free_again_when_dropped() {
        let name = Name::try_new(&format!("test-{}", std::process::id())).unwrap();
        let lock = Lock::take(&name).unwrap();
        assert!(matches!(Lock::take(&name), Err(FolderError::Locked { .. })));
        drop(lock);
        drop(Lock::take(&name).unwrap());
        assert!(!Lock::path(&name).exists());
    }

    #[test]
    fn a_lock_that_leads_elsewhere_is_not_taken_and_nothing_there_is_lost() {
        let place = tempfile::tempdir().unwrap();
        let name = Name::try_new("x").unwrap();
        let theirs = place.path().join("theirs");
        fs::write(&theirs, "precious").unwrap();
        let [link, second] = ["link", "second"].map(|name| place.path().join(name));
        symlink(&theirs, &link).unwrap();
        fs::hard_link(&theirs, &second).unwrap();
        for lock in [link, second, PathBuf::from("/dev/null")] {
            assert!(matches!(Lock::take_at(&name, lock.clone()), Err(FolderError::NotOurs { .. })), "{}", lock.display());
        }
        assert_eq!(fs::read_to_string(theirs).unwrap(), "precious");
    }

    #[test]
    fn the_image_of_the_nodes_is_remembered_beside_the_mark() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder(place.path().to_owned());
        assert_eq!(folder.remembered_image(), None);
        folder.mark_made(&serde_json::json!({})).unwrap();
        folder.remember_image("kindest/node:v1").unwrap();
        folder.unmark().unwrap();
        assert!(!folder.is_made());
        assert_eq!(folder.remembered_image().as_deref(), Some("kindest/node:v1"));
    }

    #[test]
    fn what_we_start_holds_the_lock_as_long_as_it_lives() {
        let name = Name::try_new(&format!("test-child-{}", std::process::id())).unwrap();
        let lock = Lock::take(&name).unwrap();
        let mut child = std::process::Command::new("sh").args(["-c", "read line"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        // As after `kill -9`: our own copy is closed, and the file is still there.
        let Lock { path, _file: file } = &lock;
        let (path, held) = (path.clone(), file.try_clone().unwrap());
        let kept = path.with_extension("kept");
        fs::hard_link(&path, &kept).unwrap();
        drop((lock, held));
        fs::rename(&kept, &path).unwrap();
        assert!(matches!(Lock::take(&name), Err(FolderError::Locked { .. })), "it lives");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(Lock::take(&name).expect("it is dead"));
    }

    #[test]
    fn a_folder_that_leads_elsewhere_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        symlink("/etc", &link).unwrap();
        assert!(matches!(make(&link, 0o755, false), Err(FolderError::NotOurs { .. })));
        let fresh = place.path().join("fresh");
        make(&fresh, 0o1777, true).unwrap();
        make(&fresh, 0o1777, true).unwrap();
        assert_eq!(fresh.metadata().unwrap().mode() & 0o7777, 0o1777);
    }
}
