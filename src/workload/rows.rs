//! A row is a function of trial, writer and sequence number.
//!
//! So the client remembers ranges of numbers and not rows, and any row that is read can be recomputed and compared.

use sha2::{Digest as _, Sha256};

use crate::event::RowKey;

/// Which trial of which run; the same numbers in another trial make other rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialKey(pub String);

/// The columns of a row that the client determines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which row.
    pub key: RowKey,
    /// Half a SHA-256 over trial, writer and sequence number, in hexadecimal.
    pub payload: String,
    /// CRC-32C over all of the above.
    pub checksum: i64,
}

impl Row {
    /// The row that stands for this key in this trial.
    #[must_use]
    pub fn of(trial: &TrialKey, key: RowKey) -> Self {
        let hash = Sha256::digest(format!("{}/{}/{}", trial.0, key.writer, key.seq));
        let payload = hexadecimal(&hash[..16]);
        let checksum = Self::checksum(trial, key, &payload);
        Self { key, payload, checksum }
    }

    /// The checksum of these columns.
    #[must_use]
    pub fn checksum(trial: &TrialKey, key: RowKey, payload: &str) -> i64 {
        i64::from(crc32c::crc32c(format!("{}|{}|{}|{payload}", trial.0, key.writer, key.seq).as_bytes()))
    }
}

/// Bytes as text, two digits each.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn row(trial: &str, writer: u32, seq: u64) -> Row {
        Row::of(&TrialKey(trial.into()), RowKey { writer, seq })
    }

    #[test]
    fn it_is_the_same_each_time() {
        assert_eq!(row("a-1", 3, 7), row("a-1", 3, 7));
        assert_eq!(row("a-1", 3, 7).payload.len(), 32);
    }

    #[rstest]
    #[case::another_trial(row("a-2", 3, 7))]
    #[case::another_writer(row("a-1", 4, 7))]
    #[case::another_number(row("a-1", 3, 8))]
    fn another_key_makes_another_payload(#[case] other: Row) {
        assert_ne!(row("a-1", 3, 7).payload, other.payload);
        assert_ne!(row("a-1", 3, 7).checksum, other.checksum);
    }

    #[test]
    fn one_flipped_bit_shows_in_the_checksum() {
        let trial = TrialKey("a-1".into());
        let good = row("a-1", 3, 7);
        for at in 0..good.payload.len() {
            let mut bytes = good.payload.clone().into_bytes();
            bytes[at] ^= 1;
            let flipped = String::from_utf8(bytes).unwrap();
            assert_ne!(Row::checksum(&trial, good.key, &flipped), good.checksum);
        }
    }
}
