//! A set of sequence numbers.

use rangemap::RangeInclusiveSet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of sequence numbers, kept as ranges: ten million rows in order take one entry.
///
/// In JSON a list of `[first, last]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeqSet(RangeInclusiveSet<u64>);

impl SeqSet {
    /// Adds one number. Returns whether it is new.
    pub fn insert(&mut self, seq: u64) -> bool {
        let new = !self.0.contains(&seq);
        if new {
            self.0.insert(seq..=seq);
        }
        new
    }

    /// Adds `from..=to`; nothing if that is empty.
    pub fn insert_range(&mut self, from: u64, to: u64) {
        if from <= to {
            self.0.insert(from..=to);
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        for range in other.0.iter() {
            self.0.insert(range.clone());
        }
    }

    /// Whether the number is in it.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        self.0.contains(&seq)
    }

    /// How many numbers it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end() - range.start() + 1).sum()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers that are in this one and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut rest = self.0.clone();
        for range in other.0.iter() {
            rest.remove(range.clone());
        }
        Self(rest)
    }

    /// The numbers that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.difference(&self.difference(other))
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|range| (*range.start(), *range.end()))
    }
}

impl FromIterator<u64> for SeqSet {
    fn from_iter<I: IntoIterator<Item = u64>>(seqs: I) -> Self {
        let mut set = Self::default();
        for seq in seqs {
            set.insert(seq);
        }
        set
    }
}

impl Serialize for SeqSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ranges())
    }
}

impl<'de> Deserialize<'de> for SeqSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut set = Self::default();
        for (from, to) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            if from > to {
                return Err(serde::de::Error::custom(format_args!("the range {from} to {to} runs backwards")));
            }
            set.insert_range(from, to);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_set_that_a_plain_one_would_be(a in prop::collection::btree_set(0u64..60, 0..40), b in prop::collection::btree_set(0u64..60, 0..40)) {
            let (left, right): (SeqSet, SeqSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            let plain = |set: SeqSet| set.ranges().flat_map(|(from, to)| from..=to).collect::<BTreeSet<_>>();
            prop_assert_eq!(plain(left.difference(&right)), a.difference(&b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(plain(left.intersection(&right)), a.intersection(&b).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(left.len(), a.len() as u64);
            let json = serde_json::to_string(&left).unwrap();
            prop_assert_eq!(serde_json::from_str::<SeqSet>(&json).unwrap(), left);
        }
    }

    #[test]
    fn a_long_run_is_one_range() {
        let set: SeqSet = (0..100_000).collect();
        assert_eq!(set.ranges().collect::<Vec<_>>(), [(0, 99_999)]);
    }
}
