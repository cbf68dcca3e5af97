//! What the prober has told, numbered and on disk until the runner has recorded it.
//!
//! Messages get the numbers 1, 2, 3, ... and stand one a line in files of bounded size (segments), each named by its first number; a segment goes
//! when all of it is acknowledged. A message is in the file before anybody can send it: [`Cursor`] reads the files and nothing else, so the memory
//! of a prober whose runner is away does not grow, only its disk, up to a limit.
//!
//! A line that reached the kernel survives the end of the process and of its container. It is not forced to the medium: after a power failure the
//! tail may be missing or torn. What is torn is cut off, and a runner that has seen more than the journal holds notices by the numbers.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::IgnoredAny};
use tokio::sync::{mpsc, watch};

use super::message::{Message, Refusal, ToRunner};

/// How large a segment grows before the next one is begun.
pub(super) const SEGMENT_BYTES: u64 = 1 << 20;

/// How much may wait on the disk for a runner that is away: hours of probes; rows of a table wait at their source.
pub(super) const DISK_BYTES: u64 = 256 << 20;

/// The file that names the session of a journal.
const SESSION: &str = "session";

const EXTENSION: &str = "ndjson";

/// The journal cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refuses.
    #[error("could not {what} `{}`", .path.display())]
    Disk {
        /// What was being done.
        what: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The folder is another's.
    #[error("the folder `{}` holds the journal of session `{session}`: give each session a folder of its own", .path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        session: String,
    },
    /// The limit is reached.
    #[error("{limit} bytes wait for a runner that does not fetch them")]
    Full {
        /// The limit.
        limit: u64,
    },
    /// A message is missing in the middle.
    #[error("the journal in `{}` lacks message {number}", .path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// The first that is missing.
        number: u64,
    },
}

fn disk(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    move |source| JournalError::Disk { what, path: path.to_owned(), source }
}

/// How large things may grow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) segment: u64,
    pub(super) disk: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment: SEGMENT_BYTES, disk: DISK_BYTES }
    }
}

/// One file of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    first: u64,
    bytes: u64,
}

/// The journal, as the one who writes it has it.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    limits: Limits,
    /// The oldest first; the last one is being written.
    segments: VecDeque<Segment>,
    file: File,
    next: u64,
    acknowledged: u64,
}

impl Journal {
    /// Opens the journal of a session in its folder. `true`: it was there already, so the process that wrote it has ended.
    pub(super) fn open(folder: &Path, session: &str, limits: Limits) -> Result<(Self, bool), JournalError> {
        fs::create_dir_all(folder).map_err(disk("make the folder", folder))?;
        let name = folder.join(SESSION);
        let resumed = match fs::read_to_string(&name) {
            Ok(found) if found == session => true,
            // Empty: it was begun, and cut short before its name was written.
            Ok(found) if found.is_empty() => false,
            Ok(found) => return Err(JournalError::Foreign { path: folder.to_owned(), session: found }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(disk("read", &name)(error)),
        };
        let mut segments = VecDeque::new();
        let mut next = 1;
        for first in firsts(folder)? {
            if segments.is_empty() {
                next = first;
            }
            if first != next {
                return Err(JournalError::Damaged { path: folder.to_owned(), number: next });
            }
            let (bytes, behind) = mend(&path_of(folder, first), first)?;
            segments.push_back(Segment { first, bytes });
            next = behind;
        }
        if segments.is_empty() {
            segments.push_back(Segment { first: next, bytes: 0 });
        }
        let last = segments.back().expect("there is at least one");
        let file = writer(&path_of(folder, last.first))?;
        // Last of all: a journal that has a name is whole.
        fs::write(&name, session).map_err(disk("write", &name))?;
        let acknowledged = segments.front().expect("there is at least one").first - 1;
        Ok((Self { folder: folder.to_owned(), limits, segments, file, next, acknowledged }, resumed))
    }

    /// The number that the next message will have.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The first number that is not acknowledged.
    pub(super) const fn first(&self) -> u64 {
        self.acknowledged + 1
    }

    /// Writes a message down and returns its number.
    ///
    /// # Errors
    /// [`JournalError::Full`] leaves the journal as it was.
    pub(super) fn append(&mut self, message: Message) -> Result<u64, JournalError> {
        let line = self.line(message);
        let limit = self.limits.disk;
        if self.bytes() + line.len() as u64 > limit {
            return Err(JournalError::Full { limit });
        }
        self.write(&line)
    }

    /// Writes the last message of all, which has room even if no other has.
    pub(super) fn append_last(&mut self, message: Message) -> Result<u64, JournalError> {
        let line = self.line(message);
        self.write(&line)
    }

    /// All messages up to this one are recorded elsewhere: segments that hold nothing else go.
    pub(super) fn acknowledge(&mut self, number: u64) -> Result<(), JournalError> {
        // An acknowledgement of what was never sent is none.
        self.acknowledged = self.acknowledged.max(number.min(self.next - 1));
        while self.segments.get(1).is_some_and(|second| second.first <= self.acknowledged + 1) {
            let path = path_of(&self.folder, self.segments[0].first);
            fs::remove_file(&path).map_err(disk("remove", &path))?;
            self.segments.pop_front();
        }
        Ok(())
    }

    fn line(&self, message: Message) -> Vec<u8> {
        let mut line = serde_json::to_vec(&ToRunner::Message(self.next, message)).expect("a message has a form in JSON");
        line.push(b'\n');
        line
    }

    fn write(&mut self, line: &[u8]) -> Result<u64, JournalError> {
        let last = self.segments.back_mut().expect("there is at least one");
        if last.bytes > 0 && last.bytes + line.len() as u64 > self.limits.segment {
            self.file = writer(&path_of(&self.folder, self.next))?;
            self.segments.push_back(Segment { first: self.next, bytes: 0 });
        }
        let last = self.segments.back_mut().expect("there is at least one");
        self.file.write_all(line).map_err(disk("write", &path_of(&self.folder, last.first)))?;
        last.bytes += line.len() as u64;
        self.next += 1;
        Ok(self.next - 1)
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

fn path_of(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.{EXTENSION}"))
}

fn writer(path: &Path) -> Result<File, JournalError> {
    OpenOptions::new().create(true).append(true).open(path).map_err(disk("open", path))
}

/// The first numbers of the segments in a folder, in order.
fn firsts(folder: &Path) -> Result<Vec<u64>, JournalError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(disk("read the folder", folder))? {
        let path = entry.map_err(disk("read the folder", folder))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            found.extend(path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A line of the journal, as far as a reader of numbers needs it.
#[derive(Deserialize)]
struct Line {
    message: (u64, IgnoredAny),
}

/// Cuts off what is behind the last whole line of a segment; returns its size, and the number behind its last message.
fn mend(path: &Path, first: u64) -> Result<(u64, u64), JournalError> {
    let mut reader = BufReader::new(File::open(path).map_err(disk("open", path))?);
    let (mut bytes, mut next) = (0, first);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(disk("read", path))?;
        let whole = line.ends_with(b"\n") && serde_json::from_slice::<Line>(&line).is_ok_and(|line| line.message.0 == next);
        if !whole {
            break;
        }
        bytes += line.len() as u64;
        next += 1;
    }
    let file = OpenOptions::new().write(true).open(path).map_err(disk("open", path))?;
    file.set_len(bytes).map_err(disk("cut the torn end of", path))?;
    Ok((bytes, next))
}

/// Reads the journal from some message on, while it is being written.
#[derive(Debug)]
pub(super) struct Cursor {
    folder: PathBuf,
    /// The number of the line that is read next.
    at: u64,
    file: Option<BufReader<File>>,
}

impl Cursor {
    /// Begins with the message of this number, which must not have been acknowledged.
    pub(super) fn new(folder: &Path, from: u64) -> Self {
        Self { folder: folder.to_owned(), at: from, file: None }
    }

    /// The number of the message that is read next.
    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    /// Whole lines of the messages before `next`, at least one if there is one, and not many more bytes than `about`.
    pub(super) fn read(&mut self, next: u64, about: usize) -> Result<Vec<u8>, JournalError> {
        let mut lines = Vec::new();
        while self.at < next && lines.len() < about {
            let Some(file) = &mut self.file else {
                self.file = Some(self.find()?);
                continue;
            };
            let before = lines.len();
            file.read_until(b'\n', &mut lines).map_err(disk("read", &self.folder))?;
            if lines.len() == before {
                // The end of this segment: the next one begins with the message at hand.
                self.file = None;
                continue;
            }
            self.at += 1;
        }
        Ok(lines)
    }

    /// Opens the segment that holds the message at hand, at that message.
    fn find(&self) -> Result<BufReader<File>, JournalError> {
        let missing = || JournalError::Damaged { path: self.folder.clone(), number: self.at };
        let first = firsts(&self.folder)?.into_iter().rfind(|first| *first <= self.at).ok_or_else(missing)?;
        let path = path_of(&self.folder, first);
        let mut reader = BufReader::new(File::open(&path).map_err(disk("open", &path))?);
        let mut skipped = Vec::new();
        for _ in first..self.at {
            skipped.clear();
            if reader.read_until(b'\n', &mut skipped).map_err(disk("read", &path))? == 0 {
                return Err(missing());
            }
        }
        // The message at hand has been written: a segment that ends here does not hold it.
        if reader.fill_buf().map_err(disk("read", &path))?.is_empty() {
            return Err(missing());
        }
        Ok(reader)
    }
}

/// What the keeper of the journal is told.
#[derive(Debug)]
pub(super) enum Entry {
    /// Write this down.
    Message(Box<Message>),
    /// The runner has recorded all up to this number.
    Acknowledged(u64),
}

impl From<Message> for Entry {
    fn from(message: Message) -> Self {
        Self::Message(Box::new(message))
    }
}

/// How far the journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The first number that is kept for the runner.
    pub(super) first: u64,
    /// The number that the next message will have.
    pub(super) next: u64,
    /// No further message is taken: the last one says why.
    pub(super) ended: bool,
    /// The journal cannot be written.
    pub(super) broken: Option<Refusal>,
}

impl Tail {
    pub(super) const fn of(journal: &Journal, ended: bool) -> Self {
        Self { first: journal.first(), next: journal.next(), ended, broken: None }
    }
}

/// Keeps the journal until nobody writes any more. It has a thread of its own: a disk that is slow holds up nobody else, as long as the channel
/// has room.
pub(super) fn keep(mut journal: Journal, mut entries: mpsc::Receiver<Entry>, tail: &watch::Sender<Tail>) {
    let mut ended = tail.borrow().ended;
    while let Some(entry) = entries.blocking_recv() {
        let result = match entry {
            Entry::Message(_) if ended => Ok(()),
            Entry::Message(message) => match journal.append(*message) {
                Err(JournalError::Full { limit }) => {
                    ended = true;
                    journal.append_last(Message::Full { limit }).map(drop)
                }
                result => result.map(drop),
            },
            Entry::Acknowledged(number) => journal.acknowledge(number),
        };
        let broken = result.err().map(|error| Refusal::Journal(crate::cluster::chain(&error)));
        ended |= broken.is_some();
        tail.send_modify(|tail| *tail = Tail { broken: tail.broken.take().or(broken), ..Tail::of(&journal, ended) });
    }
}

/// How many bytes of a folder are taken by the journal; for tests and logs.
#[cfg(test)]
fn size(folder: &Path) -> u64 {
    firsts(folder).unwrap().into_iter().map(|first| fs::metadata(path_of(folder, first)).unwrap().len()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::message::Reply, *};

    const SMALL: Limits = Limits { segment: 100, disk: 1_000 };

    fn message(id: u64) -> Message {
        Message::Reply(id, Reply::Done)
    }

    fn open(folder: &Path, limits: Limits) -> (Journal, bool) {
        Journal::open(folder, "s", limits).unwrap()
    }

    /// The numbers, and the ids of the requests, in what a cursor reads.
    fn read(folder: &Path, from: u64, next: u64) -> Vec<(u64, u64)> {
        let mut cursor = Cursor::new(folder, from);
        let mut found = Vec::new();
        while cursor.at() < next {
            let lines = cursor.read(next, 64).unwrap();
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                let Ok(ToRunner::Message(number, Message::Reply(id, _))) = serde_json::from_slice(line) else { panic!("{line:?}") };
                found.push((number, id));
            }
        }
        found
    }

    #[test]
    fn what_is_written_is_read_in_order_over_all_segments() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, resumed) = open(folder.path(), SMALL);
        assert!(!resumed);
        for id in 10..20 {
            assert_eq!(journal.append(message(id)).unwrap(), id - 9);
        }
        assert!(firsts(folder.path()).unwrap().len() > 2);
        assert_eq!(read(folder.path(), 1, journal.next()), (1..=10).map(|n| (n, n + 9)).collect::<Vec<_>>());
        assert_eq!(read(folder.path(), 7, journal.next()), (7..=10).map(|n| (n, n + 9)).collect::<Vec<_>>());
    }

    #[test]
    fn a_segment_goes_when_all_of_it_is_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path(), SMALL);
        for id in 1..=10 {
            journal.append(message(id)).unwrap();
        }
        let before = size(folder.path());
        journal.acknowledge(0).unwrap();
        assert_eq!(size(folder.path()), before);
        journal.acknowledge(7).unwrap();
        assert!(size(folder.path()) < before);
        assert_eq!(read(folder.path(), 8, journal.next()), [(8, 8), (9, 9), (10, 10)]);
        // What was never told cannot be acknowledged.
        journal.acknowledge(99).unwrap();
        assert_eq!((journal.first(), journal.next()), (11, 11));
        assert_eq!(journal.append(message(11)).unwrap(), 11);
    }

    #[test]
    fn beyond_the_limit_it_is_full_until_somebody_fetches() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path(), SMALL);
        let full = loop {
            match journal.append(message(1)) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(full, JournalError::Full { limit: 1_000 }));
        assert!(size(folder.path()) <= 1_000);
        // The one that says so has room.
        let number = journal.append_last(Message::Full { limit: 1_000 }).unwrap();
        assert_eq!(number, journal.next() - 1);
        journal.acknowledge(number).unwrap();
        journal.append(message(2)).unwrap();
    }

    #[test]
    fn the_journal_of_another_session_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), SMALL).0.append(message(1)).unwrap();
        assert!(matches!(Journal::open(folder.path(), "t", SMALL), Err(JournalError::Foreign { session, .. }) if session == "s"));
        assert_eq!(open(folder.path(), SMALL).0.next(), 2);
    }

    #[test]
    fn a_missing_segment_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path(), SMALL);
        for id in 1..=10 {
            journal.append(message(id)).unwrap();
        }
        let second = firsts(folder.path()).unwrap()[1];
        fs::remove_file(path_of(folder.path(), second)).unwrap();
        assert!(matches!(Journal::open(folder.path(), "s", SMALL), Err(JournalError::Damaged { number, .. }) if number == second));
        let mut cursor = Cursor::new(folder.path(), 1);
        assert!(matches!(cursor.read(11, 10_000), Err(JournalError::Damaged { .. })));
    }

    #[test]
    fn the_keeper_says_that_it_is_full_and_takes_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = open(folder.path(), SMALL);
        let (tail, seen) = watch::channel(Tail::of(&journal, false));
        let (entries, receiver) = mpsc::channel(1_000);
        for id in 0..100 {
            entries.try_send(message(id).into()).unwrap();
        }
        drop(entries);
        keep(journal, receiver, &tail);
        let seen = seen.borrow().clone();
        assert!(seen.ended && seen.broken.is_none());
        let lines = Cursor::new(folder.path(), seen.next - 1).read(seen.next, 1).unwrap();
        assert!(matches!(serde_json::from_slice(&lines).unwrap(), ToRunner::Message(_, Message::Full { limit: 1_000 })));
    }

    proptest! {
        /// Killed in the middle of a write: all whole lines are kept, the torn one is cut off, and the numbers go on.
        #[test]
        fn a_torn_end_is_cut_off_and_the_numbers_go_on(count in 0u64..20, torn in 0usize..40, acknowledged in 0u64..25) {
            let folder = tempfile::tempdir().unwrap();
            let (mut journal, _) = open(folder.path(), SMALL);
            for id in 1..=count {
                journal.append(message(id)).unwrap();
            }
            journal.acknowledge(acknowledged).unwrap();
            let first = journal.first();
            drop(journal);
            let line = serde_json::to_vec(&ToRunner::Message(count + 1, message(0))).unwrap();
            let last = *firsts(folder.path()).unwrap().last().unwrap();
            let mut file = writer(&path_of(folder.path(), last)).unwrap();
            file.write_all(&line[..torn.min(line.len())]).unwrap();

            let (mut journal, resumed) = open(folder.path(), SMALL);
            prop_assert!(resumed);
            prop_assert_eq!(journal.next(), count + 1);
            prop_assert_eq!(journal.append(message(count + 1)).unwrap(), count + 1);
            let expected: Vec<_> = (first..=count + 1).map(|number| (number, number)).collect();
            prop_assert_eq!(read(folder.path(), first, journal.next()), expected);
        }
    }
}
