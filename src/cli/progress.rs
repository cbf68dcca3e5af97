//! What the run is doing just now, on stderr, for the one who waits.
//!
//! On a terminal a line that changes in place, with a line above it for each trial that ended; elsewhere (a CI log, a file) one plain line
//! a step, which never contains a control character. A terminal that is gone (a closed pipe) must not end a run that has faults to undo, so
//! nothing here fails: what cannot be written is dropped.

use std::{
    env,
    io::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    report::{figure, text::one_line},
    result::{TrialResult, Verdict},
};

/// How often the line on the terminal moves, so that a long wait does not look like a hang.
const TICK: Duration = Duration::from_millis(120);

/// The progress of a run. It can be shared: every method takes `&self`.
pub struct Progress {
    trials: usize,
    display: Display,
    /// Which trial is going on: its name and its place.
    current: Mutex<Option<(String, usize)>>,
}

enum Display {
    /// A line that changes in place.
    Bar { bar: ProgressBar, color: bool },
    /// A line for each step.
    Lines(Mutex<Box<dyn Write + Send>>),
}

impl Progress {
    /// The progress of a run of so many trials, on stderr: in place if that is a terminal, else line by line.
    ///
    /// Colours only on a terminal, and not if `NO_COLOR` is set to anything but nothing.
    #[must_use]
    pub fn new(trials: usize) -> Self {
        let target = ProgressDrawTarget::stderr();
        // Also hidden on a terminal that cannot move its cursor; there the steps must show all the same.
        if target.is_hidden() {
            return Self::line_by_line(trials, Box::new(io::stderr()));
        }
        let color = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let progress = Self::in_place(trials, target, color);
        if let Display::Bar { bar, .. } = &progress.display {
            bar.enable_steady_tick(TICK);
        }
        progress
    }

    fn in_place(trials: usize, target: ProgressDrawTarget, color: bool) -> Self {
        let style = ProgressStyle::with_template("{spinner} {prefix}{wide_msg} {elapsed}").expect("the template is valid");
        let bar = ProgressBar::with_draw_target(None, target).with_style(style);
        Self { trials, display: Display::Bar { bar, color }, current: Mutex::new(None) }
    }

    fn line_by_line(trials: usize, out: Box<dyn Write + Send>) -> Self {
        Self { trials, display: Display::Lines(Mutex::new(out)), current: Mutex::new(None) }
    }

    /// A trial begins. `index` is its place in the run, from 0.
    pub fn trial(&self, name: &str, index: usize) {
        *self.current() = Some((one_line(name), index));
        match &self.display {
            Display::Bar { bar, .. } => {
                bar.reset_elapsed();
                bar.set_message("");
                bar.set_prefix(self.place());
                bar.tick();
            }
            Display::Lines(out) => line(out, &self.place()),
        }
    }

    /// The run does something else now: `waiting for the recovery`. Also before the first trial.
    pub fn step(&self, what: &str) {
        let what = one_line(what);
        let separator = if self.current().is_some() { ": " } else { "" };
        match &self.display {
            Display::Bar { bar, .. } => bar.set_message(format!("{separator}{what}")),
            Display::Lines(out) => line(out, &format!("{}{separator}{what}", self.place())),
        }
    }

    /// Something that is worth knowing afterwards: a line that stays.
    pub fn note(&self, text: &str) {
        let text = one_line(text);
        match &self.display {
            Display::Bar { bar, .. } => bar.println(text),
            Display::Lines(out) => line(out, &text),
        }
    }

    /// The trial that was going on has ended.
    pub fn finish_trial(&self, trial: &TrialResult) {
        let place = self.place();
        let (verdict, said) = (trial.verdict, said(trial));
        match &self.display {
            Display::Bar { bar, color } => {
                bar.set_message("");
                bar.println(format!("{place}: {}{said}", painted(verdict, *color)));
                bar.set_prefix("");
            }
            Display::Lines(out) => line(out, &format!("{place}: {verdict}{said}")),
        }
        *self.current() = None;
    }

    /// The run has ended: the line that changes goes away, the summary comes after it.
    pub fn finish(&self) {
        match &self.display {
            Display::Bar { bar, .. } => bar.finish_and_clear(),
            Display::Lines(_) => {}
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<(String, usize)>> {
        // Nothing that holds the lock can leave it half written.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `[2/4] kill-process`, or nothing between two trials.
    fn place(&self) -> String {
        match &*self.current() {
            Some((name, index)) => format!("[{}/{}] {name}", index + 1, self.trials),
            None => String::new(),
        }
    }
}

impl Drop for Progress {
    /// A panic must not leave half a line over which the message is printed.
    fn drop(&mut self) {
        self.finish();
    }
}

/// What follows the verdict: the figures of a pass, the reason of anything else.
fn said(trial: &TrialResult) -> String {
    match trial.verdict {
        Verdict::Passed if trial.faults.is_empty() => format!(", outage {}", figure::outage(trial)),
        Verdict::Passed => format!(", outage {}, recovery {}", figure::outage(trial), figure::recovery_and_limit(trial)),
        Verdict::Failed | Verdict::Unproven | Verdict::Skipped | Verdict::Error | Verdict::Interrupted => {
            format!(": {}", one_line(&trial.reason))
        }
    }
}

fn painted(verdict: Verdict, color: bool) -> String {
    let style = crate::report::terminal::color(verdict).on_default();
    if color { format!("{style}{verdict}{style:#}") } else { verdict.to_string() }
}

fn line(out: &Mutex<Box<dyn Write + Send>>, text: &str) {
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    // One write, so that lines of several processes do not mix; see the module for why a failure is dropped.
    let _ = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use indicatif::TermLike;

    use super::*;
    use crate::result::{Bounded, FaultResult, ProbeCounts};

    /// What was written, and when told so, a failure instead.
    #[derive(Clone, Debug, Default)]
    struct Written {
        text: Arc<Mutex<String>>,
        closed: bool,
    }

    impl Written {
        fn text(&self) -> String {
            self.text.lock().expect("nobody panicked").clone()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.closed {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.text.lock().expect("nobody panicked").push_str(std::str::from_utf8(bytes).expect("text"));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl TermLike for Written {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.clone().write_all(format!("{text}\n").as_bytes())
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.clone().write_all(text.as_bytes())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.clone().write_all(b"\r")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn passed() -> TrialResult {
        let bounded = |ms| {
            let ms = Duration::from_millis(ms);
            Some(Bounded { at: Some(ms), lo: ms.saturating_sub(Duration::from_millis(50)), hi: Some(ms + Duration::from_millis(80)) })
        };
        TrialResult {
            verdict: Verdict::Passed,
            faults: vec![FaultResult { fault: "killProcess".into(), victim: None, mechanism: None, error: None }],
            probes: ProbeCounts { due: 60, ..ProbeCounts::default() },
            outage: bounded(1_230),
            recovery: bounded(1_300),
            recovery_limit: Some(Duration::from_secs(10)),
            ..TrialResult::planned("kill-process", 1)
        }
    }

    fn story(progress: &Progress) {
        progress.step("starting the sandbox");
        progress.trial("kill-process", 0);
        progress.step("waiting for\nthe recovery \u{1b}[2J");
        progress.finish_trial(&passed());
        progress.trial("drain-node", 1);
        let reason = "3 rows are\ngone".into();
        progress.finish_trial(&TrialResult { verdict: Verdict::Failed, reason, ..TrialResult::planned("drain-node", 1) });
        progress.finish();
    }

    #[test]
    fn without_a_terminal_each_step_is_a_plain_line() {
        let written = Written::default();
        story(&Progress::line_by_line(2, Box::new(written.clone())));
        assert_eq!(
            written.text(),
            "starting the sandbox\n\
             [1/2] kill-process\n\
             [1/2] kill-process: waiting for the recovery \\u{1b}[2J\n\
             [1/2] kill-process: passed, outage 1.23 s [1.18, 1.31], recovery 1.30 s [1.25, 1.38], limit 10 s\n\
             [2/2] drain-node\n\
             [2/2] drain-node: failed: 3 rows are gone\n"
        );
    }

    #[test]
    fn on_a_terminal_each_trial_that_ended_stays() {
        for color in [true, false] {
            let written = Written::default();
            story(&Progress::in_place(2, ProgressDrawTarget::term_like(Box::new(written.clone())), color));
            let text = written.text();
            let painted = painted(Verdict::Failed, color);
            assert!(text.contains("[1/2] kill-process"), "{text:?}");
            assert!(text.contains(&format!("[2/2] drain-node: {painted}: 3 rows are gone")), "{text:?}");
            assert_eq!(text.contains('\u{1b}'), color, "{text:?}");
        }
    }

    #[test]
    fn a_closed_stderr_does_not_end_the_run() {
        let closed = Written { closed: true, ..Written::default() };
        story(&Progress::line_by_line(2, Box::new(closed.clone())));
        story(&Progress::in_place(2, ProgressDrawTarget::term_like(Box::new(closed)), true));
    }
}
