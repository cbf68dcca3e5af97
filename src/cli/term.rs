//! The one place that prints: data to stdout, prose to stderr.
//!
//! A reader that went away (`comeback schema | head -1`) is no error: the rest is dropped in silence.

use std::{
    env,
    io::{self, ErrorKind, IsTerminal, Write},
};

/// Writes data, for a program or a person, to stdout. It has to end with a line break if it is text.
///
/// # Errors
/// When stdout cannot take it, e.g. because the disk is full. A caller that promised data has then failed.
pub fn data(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes prose, for a person, to stderr, and a line break if it has none. That nobody can read it is not an error.
pub fn prose(text: &str) {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let _ = io::stderr().lock().write_all(format!("{text}{end}").as_bytes());
}

/// Whether prose may be coloured: stderr is a terminal that knows colours, and `NO_COLOR` is not set.
#[must_use]
pub fn prose_has_color() -> bool {
    has_color(io::stderr().is_terminal(), |name| env::var_os(name).is_some_and(|value| !value.is_empty()), dumb())
}

/// Whether data may be coloured: as [`prose_has_color`], for stdout.
#[must_use]
pub fn data_has_color() -> bool {
    has_color(io::stdout().is_terminal(), |name| env::var_os(name).is_some_and(|value| !value.is_empty()), dumb())
}

fn dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

fn has_color(terminal: bool, is_set: impl Fn(&str) -> bool, dumb: bool) -> bool {
    terminal && !dumb && !is_set("NO_COLOR")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_terminal(true, false, false, true)]
    #[case::a_file(false, false, false, false)]
    #[case::no_color(true, true, false, false)]
    #[case::a_dumb_terminal(true, false, true, false)]
    fn colour_is_for_terminals_that_want_it(#[case] terminal: bool, #[case] no_color: bool, #[case] dumb: bool, #[case] color: bool) {
        assert_eq!(has_color(terminal, |name| name == "NO_COLOR" && no_color, dumb), color);
    }
}
