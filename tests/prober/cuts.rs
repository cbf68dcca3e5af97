//! Connections that break while the streams run.

use std::{collections::BTreeMap, time::Duration};

use comeback::{
    event::{Answer, Clock, Outcome, PROBE_WRITER, RowKey, Side, Stream, TABLES},
    measure::Ledger,
    prober::TableEnd,
    workload::{
        Tables,
        final_read::{Reading, RowFile},
    },
};

use crate::{
    process::{Process, connect, eventually, load, open, probe},
    proxy::{Mode, Proxy},
    server::Server,
};

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the seed of a test that failed is shown with it")]
async fn whatever_breaks_each_attempt_and_each_write_is_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("db"), &[]);
    let process = Process::start(&folder.path().join("prober"), &[]);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    // A chunk of rows takes about 60,000 bytes, so some cuts are within one and some are not.
    let proxy = Proxy::start(process.address, Some(500..150_000), seed).await;
    let clock = Clock::new();
    let (prober, record) = connect(proxy.address, clock);

    prober.open(open(&server)).await.unwrap();
    prober.create_tables("the mark", Duration::from_secs(30)).await.unwrap();
    assert_eq!(prober.look().await.volume_mark, Answer::Known(Some("the mark".into())));
    prober.write_rows_before(&load()).await.unwrap();
    let began = clock.now();
    prober.start_streams(&probe(), &load()).await.unwrap();
    // A few bytes a second are no test of cuts: some are made by hand.
    for round in 1..=10 {
        record.wait_for(round * 10).await;
        proxy.set(Mode::Shut);
        let before = proxy.cuts();
        eventually("a connection that is refused", || proxy.cuts() > before + 1).await;
        proxy.set(Mode::Open);
    }
    let first = record.attempts(Stream::WriteNew)[0].number;
    let held = prober.holds(RowKey { writer: PROBE_WRITER, seq: first }).await.unwrap();
    assert!(held.found && held.started >= began && held.ended <= clock.now(), "{held:?}");
    prober.stop_streams(Duration::from_secs(15)).await.unwrap();
    let ended = clock.now();
    assert_eq!(prober.settle().await.unwrap(), Answer::Known(()));

    // Each attempt, exactly once, on the runner's clock.
    for stream in [Stream::WriteNew, Stream::Control] {
        let numbers = record.numbers(stream);
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{stream:?}");
    }
    for attempt in record.attempts(Stream::WriteNew) {
        let run = attempt.run.expect("a quiet place");
        assert!(run.started >= began && run.ended <= ended && run.outcome == Outcome::Acknowledged, "{run:?}");
    }
    // Each write of each writer, exactly once.
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    let mut ledger = Ledger::default();
    for entry in record.ledger() {
        assert_eq!(entry.from, *next.get(&entry.writer).unwrap_or(&0), "writer {}", entry.writer);
        next.insert(entry.writer, entry.to + 1);
        ledger.enter(&entry);
    }
    assert_eq!(next.len(), 3);
    for attempt in record.attempts(Stream::WriteNew) {
        ledger.enter_attempt(&attempt);
    }

    // The rows, over several chunks and cuts, are those.
    let mut file = RowFile::create(&folder.path().join("rows.csv")).unwrap();
    let trial = Tables::new("run-1", 1).trial;
    for table in TABLES {
        let mut reading = Reading::new(table, &trial, &ledger, ("cuts", 1), &mut file);
        let end = prober.read_table(table, |row| reading.push(row).map_err(|error| error.to_string())).await.unwrap();
        let read = reading.finish().unwrap();
        assert_eq!(end, TableEnd::Read);
        assert_eq!(read.rows, ledger.count(Outcome::Acknowledged));
        assert_eq!((read.duplicate.count, read.corrupt.count, read.misordered.count), (0, 0, 0));
        for (writer, writes) in &ledger.writers {
            assert_eq!(read.found[writer], writes.acknowledged, "writer {writer} of table `{table}`");
        }
    }
    prober.close_trial().await.unwrap();
    let bounds = record.clocks();
    assert_eq!(bounds.iter().map(|(side, _)| *side).collect::<Vec<_>>(), [Side::Before, Side::After]);
    assert!(bounds.iter().all(|(_, bound)| bound.bound > Duration::ZERO && bound.bound < Duration::from_secs(1)), "{bounds:?}");
    assert!(proxy.cuts() >= 20, "{} cuts are few", proxy.cuts());
    assert_eq!(prober.failure(), None);
    prober.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_silent_is_given_up_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("db"), &[]);
    let process = Process::start(&folder.path().join("prober"), &[]);
    let proxy = Proxy::start(process.address, None, 0).await;
    let (prober, record) = connect(proxy.address, Clock::new());
    prober.open(open(&server)).await.unwrap();
    prober.create_tables("m", Duration::from_secs(30)).await.unwrap();
    prober.start_streams(&probe(), &load()).await.unwrap();
    record.wait_for(10).await;
    proxy.set(Mode::Silent);
    let before = proxy.accepted();
    // Neither end closes: only the silence tells.
    eventually("the runner dials again", || proxy.accepted() > before).await;
    proxy.set(Mode::Open);
    let seen = record.attempts(Stream::WriteNew).len();
    record.wait_for(seen + 100).await;
    prober.stop_streams(Duration::from_secs(15)).await.unwrap();
    let numbers = record.numbers(Stream::WriteNew);
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    // The streams went on meanwhile.
    assert!(record.attempts(Stream::WriteNew).windows(2).all(|pair| pair[1].scheduled.since(pair[0].scheduled) < Duration::from_secs(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_is_forgotten_by_the_prober() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("db"), &[]);
    let process = Process::start(&folder.path().join("prober"), &[]);
    let (prober, _record) = connect(process.address, Clock::new());
    prober.open(open(&server)).await.unwrap();
    prober.create_tables("m", Duration::from_secs(30)).await.unwrap();
    let load = comeback::scenario::Load { rows_before: 20_000, ..load() };
    prober.write_rows_before(&load).await.unwrap();
    let mut rows = 0;
    for table in TABLES {
        prober
            .read_table(table, |_| {
                rows += 1;
                Ok(())
            })
            .await
            .unwrap();
    }
    assert_eq!(rows, 40_000);
    // Four megabytes went through the journal; of whole segments that are recorded nothing is left.
    eventually("the journal shrinks", || process.journal().iter().map(String::len).sum::<usize>() < 2 << 20).await;
    assert!(process.journal().first().is_some_and(|line| !line.starts_with(r#"{"message":[1,"#)));
}
