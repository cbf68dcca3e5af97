//! The login record (LOGIN7), and how a password is kept.

use std::fmt;

use sha2::{Digest, Sha512};

use super::types::utf16;

/// The fixed part of the record, up to its table of offsets.
const FIXED: usize = 36;
/// The longest field, in units of UTF-16, as the protocol has it. The catalog has no room for a longer name.
const MAX_FIELD: usize = 128;
/// The oldest protocol that is spoken: 7.2, SQL Server 2005.
const OLDEST: u32 = 0x7209_0002;
/// The newest: 7.4.
pub(crate) const NEWEST: u32 = 0x7400_0004;

/// Who wants in, and to what.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// The version of the protocol, no newer than [`NEWEST`].
    pub(crate) tds_version: u32,
    /// The packet size that the client would like.
    pub(crate) packet_size: u32,
    /// The client's machine, as it says.
    pub(crate) host: String,
    /// The login.
    pub(crate) user: String,
    /// The password.
    pub(crate) password: String,
    /// The program, as it says.
    pub(crate) program: String,
    /// The database to begin in; empty: the login's own.
    pub(crate) database: String,
}

/// Never shows the password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).field("host", &self.host).field("program", &self.program).finish_non_exhaustive()
    }
}

/// Why a record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginError {
    /// A length or an offset in it cannot be.
    #[error("the login record is malformed")]
    Malformed,
    /// The protocol is older than 7.2.
    #[error("the client speaks a protocol older than TDS 7.2")]
    TooOld,
    /// It asks for a login by Windows or a token.
    #[error("the client asks for integrated authentication; only SQL logins are known")]
    Integrated,
}

impl Login {
    /// Reads the record.
    pub(crate) fn parse(record: &[u8]) -> Result<Self, LoginError> {
        let word = |at: usize| -> Result<u32, LoginError> {
            let bytes = record.get(at..at + 4).ok_or(LoginError::Malformed)?;
            Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let field = |index: usize| -> Result<&[u8], LoginError> {
            let at = FIXED + index * 4;
            let entry = record.get(at..at + 4).ok_or(LoginError::Malformed)?;
            let offset = usize::from(u16::from_le_bytes([entry[0], entry[1]]));
            let length = usize::from(u16::from_le_bytes([entry[2], entry[3]]));
            if length > MAX_FIELD {
                return Err(LoginError::Malformed);
            }
            let length = length * 2;
            record.get(offset..offset + length).ok_or(LoginError::Malformed)
        };
        let tds_version = word(4)?;
        if tds_version < OLDEST {
            return Err(LoginError::TooOld);
        }
        // The second byte of option flags: its highest bit asks for integrated security.
        if record.get(25).ok_or(LoginError::Malformed)? & 0x80 != 0 {
            return Err(LoginError::Integrated);
        }
        let password: Vec<u8> = field(2)?.iter().map(|byte| (byte ^ 0xA5).rotate_right(4)).collect();
        Ok(Self {
            tds_version: tds_version.min(NEWEST),
            packet_size: word(8)?,
            host: utf16(field(0)?),
            user: utf16(field(1)?),
            password: utf16(&password),
            program: utf16(field(3)?),
            database: utf16(field(8)?),
        })
    }
}

/// A password as it is kept: a salt and the SHA-512 of password and salt, as SQL Server keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredPassword {
    /// The salt.
    pub(crate) salt: Vec<u8>,
    /// The digest.
    pub(crate) digest: Vec<u8>,
}

impl StoredPassword {
    /// Salts and digests a password.
    pub(crate) fn of(password: &str) -> Self {
        let salt = uuid::Uuid::new_v4().as_bytes().to_vec();
        let digest = digest(password, &salt);
        Self { salt, digest }
    }

    /// Whether this is the password.
    pub(crate) fn is(&self, password: &str) -> bool {
        let given = digest(password, &self.salt);
        given.len() == self.digest.len() && given.iter().zip(&self.digest).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

fn digest(password: &str, salt: &[u8]) -> Vec<u8> {
    let mut hasher = Sha512::new();
    for unit in password.encode_utf16() {
        hasher.update(unit.to_le_bytes());
    }
    hasher.update(salt);
    hasher.finalize().to_vec()
}

/// Why a password is too weak for `sa`, in SQL Server's words; `None`: it is not.
pub(crate) fn weakness(password: &str) -> Option<&'static str> {
    if password.chars().count() < 8 {
        return Some("it is too short. The password must be at least 8 characters");
    }
    let classes = [
        password.chars().any(|c| c.is_ascii_uppercase()),
        password.chars().any(|c| c.is_ascii_lowercase()),
        password.chars().any(|c| c.is_ascii_digit()),
        password.chars().any(|c| !c.is_ascii_alphanumeric()),
    ];
    let enough = classes.into_iter().filter(|&present| present).count() >= 3;
    (!enough).then_some(
        "it is not complex enough. The password must be at least 8 characters long and contain characters from three of the following \
         four sets: Uppercase letters, Lowercase letters, Base 10 digits, and Symbols",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn record(user: &str, password: &str, database: &str) -> Vec<u8> {
        let mut bytes = vec![0; 94];
        bytes[4..8].copy_from_slice(&NEWEST.to_le_bytes());
        let mut put = |index: usize, text: &str, obfuscated: bool| {
            let offset = u16::try_from(bytes.len()).expect("short");
            let units = u16::try_from(text.encode_utf16().count()).expect("short");
            let at = FIXED + index * 4;
            bytes[at..at + 2].copy_from_slice(&offset.to_le_bytes());
            bytes[at + 2..at + 4].copy_from_slice(&units.to_le_bytes());
            for byte in text.encode_utf16().flat_map(u16::to_le_bytes) {
                bytes.push(if obfuscated { byte.rotate_left(4) ^ 0xA5 } else { byte });
            }
        };
        put(1, user, false);
        put(2, password, true);
        put(8, database, false);
        bytes
    }

    #[test]
    fn user_password_and_database_are_read() {
        let login = Login::parse(&record("sa", "Gr8!päss", "comeback")).expect("it is well formed");
        assert_eq!((login.user.as_str(), login.password.as_str(), login.database.as_str()), ("sa", "Gr8!päss", "comeback"));
        assert!(!format!("{login:?}").contains("Gr8"));
    }

    #[test]
    fn an_old_client_and_an_integrated_login_are_refused() {
        let mut old = record("sa", "x", "");
        old[4..8].copy_from_slice(&0x7100_0001_u32.to_le_bytes());
        assert_eq!(Login::parse(&old), Err(LoginError::TooOld));
        let mut integrated = record("sa", "x", "");
        integrated[25] = 0x80;
        assert_eq!(Login::parse(&integrated), Err(LoginError::Integrated));
    }

    #[test]
    fn a_password_is_known_again_and_two_salts_differ() {
        let stored = StoredPassword::of("Passw0rd!");
        assert!(stored.is("Passw0rd!"));
        assert!(!stored.is("passw0rd!"));
        assert_ne!(stored, StoredPassword::of("Passw0rd!"));
    }

    #[rstest]
    #[case::good("Passw0rd!", false)]
    #[case::short("Pa0!", true)]
    #[case::one_class("aaaaaaaaaa", true)]
    fn a_weak_password_is_told(#[case] password: &str, #[case] weak: bool) {
        assert_eq!(weakness(password).is_some(), weak);
    }

    proptest! {
        #[test]
        fn a_malformed_record_is_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Login::parse(&bytes);
        }
    }
}
