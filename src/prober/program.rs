//! Which build of this program runs, by the SHA-256 of its own file.
//!
//! A version is not enough: between two releases every build has the same one, and a prober of yesterday would measure in the name of the program
//! of today.

use std::{
    env, fs,
    io::{self, Read as _},
    path::PathBuf,
    sync::OnceLock,
};

use sha2::{Digest as _, Sha256};

use crate::workload::hexadecimal;

/// How much of the file is read at once.
const PIECE: usize = 1 << 20;

/// How much a prober must be like its runner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Likeness {
    /// The same file, byte for byte: the image of the prober is made of the running program.
    #[default]
    Build,
    /// Of the same version: somebody else has made the image, such as one for nodes that could not run this program.
    Version,
}

/// Of which build this process is, in hexadecimal digits. It is found out once.
///
/// # Errors
/// If the file of the program cannot be read.
pub(super) fn fingerprint() -> io::Result<&'static str> {
    static FINGERPRINT: OnceLock<String> = OnceLock::new();
    if let Some(known) = FINGERPRINT.get() {
        return Ok(known);
    }
    let mut hash = Sha256::new();
    let mut file = fs::File::open(own_file()?)?;
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    let digits = hexadecimal(&hash.finalize());
    Ok(FINGERPRINT.get_or_init(|| digits))
}

/// The file of this process, also when another lies in its place by now.
fn own_file() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { env::current_exe() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_known_by_its_file() {
        let whole = fs::read(env::current_exe().unwrap()).unwrap();
        let expected = hexadecimal(&Sha256::digest(&whole));
        assert_eq!(fingerprint().unwrap(), expected);
        assert_eq!(fingerprint().unwrap(), expected, "the second time too");
    }
}
