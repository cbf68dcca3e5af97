//! The pre-login exchange: versions, and whether the rest is encrypted.

use bytes::{BufMut, BytesMut};

/// What a side says of encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// Only the login, if both sides say so.
    LoginOnly,
    /// Everything.
    Everything,
    /// Nothing: the side cannot.
    Nothing,
}

/// Tokens of the option table.
const VERSION: u8 = 0;
const ENCRYPTION: u8 = 1;
const INSTANCE: u8 = 2;
const THREAD: u8 = 3;
const MARS: u8 = 4;
const TERMINATOR: u8 = 0xFF;

/// The version that the stand-in claims, so that clients choose the dialect of SQL Server 2022: 16.0.
pub(crate) const SERVER_VERSION: [u8; 6] = [16, 0, 0x10, 0, 0, 0];

/// What the two sides agree on, given what the client's message says; `None`: the message is malformed.
///
/// The stand-in can do TLS and never insists: a client that cannot gets plain text, one that asks for it gets everything encrypted, and
/// one that says "off" gets its login encrypted, as SQL Server does it without `forceencryption`.
pub(crate) fn agree(message: &[u8]) -> Option<Encryption> {
    let mut agreed = Encryption::Nothing;
    let mut table = message;
    loop {
        let (&token, rest) = table.split_first()?;
        if token == TERMINATOR {
            return Some(agreed);
        }
        let entry = rest.get(..4)?;
        let offset = usize::from(u16::from_be_bytes([entry[0], entry[1]]));
        let length = usize::from(u16::from_be_bytes([entry[2], entry[3]]));
        let value = message.get(offset..offset + length)?;
        if token == ENCRYPTION {
            agreed = match value.first()? {
                0 => Encryption::LoginOnly,
                1 | 3 => Encryption::Everything,
                2 => Encryption::Nothing,
                _ => return None,
            };
        }
        table = &rest[4..];
    }
}

/// The server's answer.
pub(crate) fn answer(agreed: Encryption) -> BytesMut {
    let encryption = match agreed {
        Encryption::LoginOnly => 0,
        Encryption::Everything => 1,
        Encryption::Nothing => 2,
    };
    let options: [(u8, &[u8]); 5] =
        [(VERSION, &SERVER_VERSION), (ENCRYPTION, &[encryption]), (INSTANCE, &[0]), (THREAD, &[]), (MARS, &[0])];
    let mut out = BytesMut::new();
    let mut offset = u16::try_from(options.len() * 5 + 1).expect("the table is short");
    for (token, value) in options {
        let length = u16::try_from(value.len()).expect("the values are short");
        out.put_u8(token);
        out.put_u16(offset);
        out.put_u16(length);
        offset += length;
    }
    out.put_u8(TERMINATOR);
    for (_, value) in options {
        out.put_slice(value);
    }
    out
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn message(encryption: u8) -> Vec<u8> {
        vec![ENCRYPTION, 0, 6, 0, 1, TERMINATOR, encryption]
    }

    #[rstest]
    #[case::off(0, Some(Encryption::LoginOnly))]
    #[case::on(1, Some(Encryption::Everything))]
    #[case::not_supported(2, Some(Encryption::Nothing))]
    #[case::required(3, Some(Encryption::Everything))]
    #[case::nonsense(99, None)]
    fn the_client_decides(#[case] said: u8, #[case] agreed: Option<Encryption>) {
        assert_eq!(agree(&message(said)), agreed);
    }

    #[rstest]
    #[case::empty(&[])]
    #[case::no_terminator(&[1, 0, 6, 0, 1])]
    #[case::value_beyond_the_end(&[1, 0, 60, 0, 1, 0xFF, 0])]
    fn a_malformed_message_is_refused(#[case] message: &[u8]) {
        assert_eq!(agree(message), None);
    }

    #[test]
    fn the_answer_reads_back() {
        for agreed in [Encryption::LoginOnly, Encryption::Everything, Encryption::Nothing] {
            assert_eq!(agree(&answer(agreed)), Some(agreed));
        }
    }
}
