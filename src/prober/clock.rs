//! Two clocks that are not one, and how far what is said of them can be wrong.
//!
//! The prober stamps its moments on its own monotonic clock. The runner asks for the time again and again, as F. Cristian describes it
//! ("Probabilistic clock synchronization", Distributed Computing 3, 1989): it sends a ping at t0, the prober reads tp, and the answer is there at
//! t1. When tp was read, the runner's clock showed something between t0 and t1, so
//!
//! ```text
//! tp - t1 <= offset <= tp - t0        (offset: the prober's clock less the runner's)
//! ```
//!
//! At the beginning of a trial the narrowest of many such intervals gives the one offset that is used for the whole trial: its middle. So
//! lengths of time between moments of the prober stay what they were, to the nanosecond. From then on each ping tells how far the truth can be
//! from that offset at that time: `d = max(offset used - lowest, highest - offset used)`. In between the two clocks may drift apart, at most
//! by [`DRIFT_PPM`], so at time t the truth is no farther than
//!
//! ```text
//! min over all pings i of d(i) + drift * |t - t(i)|
//! ```
//!
//! and the *bound* of the trial is the largest value that this has from the first ping to the last one. A slow ping widens nothing as long as a
//! quick one is near it; a minute without any does. If pings contradict each other under that limit (a clock jumped), none is taken as a witness
//! for the time of another: the bound is then the largest d.

use std::time::Duration;

use crate::event::Moment;

/// The fastest that two monotonic clocks are taken to drift apart: for each 500 parts per million, which is what Linux allows for the correction of
/// a clock's frequency (`adjtimex`); quartz is ten times as good.
pub const DRIFT_PPM: u64 = 2 * 500;

/// What one ping tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// When it was sent, on the runner's clock.
    pub t0: Moment,
    /// What the prober's clock showed.
    pub tp: Moment,
    /// When the answer was there, on the runner's clock.
    pub t1: Moment,
}

/// By how many nanoseconds a clock is ahead of another.
type Offset = i128;

impl Ping {
    fn lowest(&self) -> Offset {
        Offset::from(self.tp.0) - Offset::from(self.t1.0)
    }

    fn highest(&self) -> Offset {
        Offset::from(self.tp.0) - Offset::from(self.t0.0)
    }

    const fn round_trip(&self) -> u64 {
        self.t1.0.saturating_sub(self.t0.0)
    }

    /// The least that the truth is away from `used`.
    fn error(&self, used: Offset) -> Offset {
        (self.lowest() - used).max(used - self.highest()).max(0)
    }

    /// The farthest that the truth can be from `used`.
    fn doubt(&self, used: Offset) -> Offset {
        (used - self.lowest()).max(self.highest() - used).max(0)
    }
}

/// The clock of a prober compared with the runner's, for one trial.
#[derive(Clone, Debug)]
pub struct Comparison {
    used: Offset,
    /// In the order in which they were sent; one a second, so an hour takes some hundred kilobytes.
    pings: Vec<Ping>,
}

impl Comparison {
    /// Chooses the offset by the narrowest of these pings; `None` if there is none.
    #[must_use]
    pub fn of(pings: Vec<Ping>) -> Option<Self> {
        let best = pings.iter().min_by_key(|ping| ping.round_trip())?;
        Some(Self { used: best.lowest().midpoint(best.highest()), pings })
    }

    /// Takes one more ping.
    pub fn push(&mut self, ping: Ping) {
        self.pings.push(ping);
    }

    /// How many pings it rests on.
    #[must_use]
    pub fn pings(&self) -> u64 {
        self.pings.len() as u64
    }

    /// A moment of the prober on the runner's clock; what was before the run began is its beginning.
    #[must_use]
    pub fn map(&self, moment: Moment) -> Moment {
        let mapped = Offset::from(moment.0) - self.used;
        Moment(u64::try_from(mapped.max(0)).unwrap_or(u64::MAX))
    }

    /// No moment between the first ping and the last one is mapped farther from the truth than this.
    #[must_use]
    pub fn bound(&self) -> Duration {
        // What each ping and its neighbours tell of its own time: one pass with time and one against it.
        let mut doubts: Vec<Offset> = self.pings.iter().map(|ping| ping.doubt(self.used)).collect();
        let drift = |earlier: &Ping, later: &Ping| drift_over(later.t1.0.saturating_sub(earlier.t0.0));
        for at in 1..doubts.len() {
            doubts[at] = doubts[at].min(doubts[at - 1] + drift(&self.pings[at - 1], &self.pings[at]));
        }
        for at in (1..doubts.len()).rev() {
            doubts[at - 1] = doubts[at - 1].min(doubts[at] + drift(&self.pings[at - 1], &self.pings[at]));
        }
        if self.pings.iter().zip(&doubts).any(|(ping, doubt)| *doubt < ping.error(self.used)) {
            return nanos(self.pings.iter().map(|ping| ping.doubt(self.used)).max());
        }
        // Between two pings it is worst where what the one tells and what the other tells are equally bad.
        let between = (1..doubts.len()).map(|at| half_up(doubts[at - 1] + doubts[at] + drift(&self.pings[at - 1], &self.pings[at])));
        nanos(doubts.iter().copied().chain(between).max())
    }
}

/// Without a single ping nothing is known.
fn nanos(worst: Option<Offset>) -> Duration {
    Duration::from_nanos(worst.and_then(|worst| u64::try_from(worst).ok()).unwrap_or(u64::MAX))
}

fn drift_over(nanos: u64) -> Offset {
    (Offset::from(nanos) * Offset::from(DRIFT_PPM)).div_euclid(1_000_000) + 1
}

const fn half_up(doubts: Offset) -> Offset {
    doubts.div_euclid(2) + doubts.rem_euclid(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn ping(t0: u64, tp: u64, t1: u64) -> Ping {
        Ping { t0: Moment(t0 * MS), tp: Moment(tp * MS), t1: Moment(t1 * MS) }
    }

    #[test]
    fn the_narrowest_ping_gives_the_offset_and_half_its_round_trip_the_bound() {
        let comparison = Comparison::of(vec![ping(0, 1_020, 40), ping(50, 1_051, 52), ping(60, 1_090, 100)]).unwrap();
        assert_eq!(comparison.map(Moment(1_051 * MS)), Moment(51 * MS));
        let bound = comparison.bound();
        assert!(bound >= Duration::from_millis(1) && bound < Duration::from_micros(1_100), "{bound:?}");
    }

    #[test]
    fn a_slow_ping_widens_nothing_beside_a_quick_one() {
        let quick = [ping(0, 1_001, 2), ping(1_000, 2_001, 1_002)];
        let narrow = Comparison::of(quick.to_vec()).unwrap().bound();
        let with_slow = Comparison::of(vec![quick[0], ping(400, 1_700, 900), quick[1]]).unwrap().bound();
        assert!(with_slow < narrow + Duration::from_millis(1), "{narrow:?} became {with_slow:?}");
    }

    #[test]
    fn a_minute_without_a_ping_widens_it_by_what_clocks_may_drift() {
        let bound = Comparison::of(vec![ping(0, 1_001, 2), ping(60_000, 61_001, 60_002)]).unwrap().bound();
        // Half-way, 30 s from either ping, with a thousandth of drift, and half a round trip.
        assert!(bound > Duration::from_millis(30) && bound < Duration::from_millis(32), "{bound:?}");
    }

    #[test]
    fn a_clock_that_jumped_is_noticed() {
        let mut comparison = Comparison::of(vec![ping(0, 1_001, 2)]).unwrap();
        comparison.push(ping(1_000, 2_501, 1_002));
        assert!(comparison.bound() >= Duration::from_millis(500));
    }

    #[test]
    fn lengths_between_moments_of_the_prober_stay_what_they_were() {
        let comparison = Comparison::of(vec![ping(0, 1_000, 3)]).unwrap();
        let (a, b) = (Moment(5_000 * MS + 1), Moment(5_007 * MS + 5));
        assert_eq!(comparison.map(b).0 - comparison.map(a).0, b.0 - a.0);
    }

    proptest! {
        /// A prober whose clock is ahead by an offset that drifts to and fro, no faster than allowed: no moment is mapped farther from the truth
        /// than the bound.
        #[test]
        fn the_true_offset_lies_within_the_bound(
            start in 0i128..10_000_000_000_000,
            // Gap to the next ping and the two ways of it, in microseconds; drift until then, in parts per million.
            pings in prop::collection::vec((0u64..3_000_000, 1u64..20_000, 1u64..20_000, -400i128..400), 1..40),
            opening in 1usize..40,
        ) {
            // (Runner's time, true offset) at each bend; in between it is straight.
            let mut bends: Vec<(u64, Offset)> = vec![(0, start)];
            let mut taken = Vec::new();
            let mut now = 1_000_000u64;
            let at = |bends: &[(u64, Offset)], t: u64, ppm: Offset| {
                let (since, offset) = *bends.last().unwrap();
                offset + Offset::from(t - since) * ppm / 1_000_000
            };
            for (gap, there, back, ppm) in pings {
                now += gap * 1_000;
                let (t0, read, t1) = (now, now + there * 1_000, now + (there + back) * 1_000);
                let offset = at(&bends, read, ppm);
                bends.push((read, offset));
                let tp = u64::try_from(Offset::from(read) + offset).unwrap();
                taken.push(Ping { t0: Moment(t0), tp: Moment(tp), t1: Moment(t1) });
                now = t1;
            }
            let later = taken.split_off(opening.min(taken.len()));
            let mut comparison = Comparison::of(taken).unwrap();
            for ping in later {
                comparison.push(ping);
            }
            let bound = Offset::try_from(comparison.bound().as_nanos()).unwrap();
            for (t, truth) in &bends[1..] {
                let moment = Moment(u64::try_from(Offset::from(*t) + truth).unwrap());
                let off = (Offset::from(comparison.map(moment).0) - Offset::from(*t)).abs();
                prop_assert!(off <= bound, "{off} > {bound}");
            }
        }
    }
}
