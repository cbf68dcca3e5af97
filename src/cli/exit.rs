//! The exit codes: what a script may rely on.

use std::process::ExitCode;

use crate::result;

/// What the program says with its exit code.
///
/// Of several that apply to one run the gravest wins: [`LeftInPlace`](Exit::LeftInPlace), then [`Failed`](Exit::Failed),
/// [`Unproven`](Exit::Unproven), [`Environment`](Exit::Environment), [`Passed`](Exit::Passed); a lost row is never hidden by an
/// environment that failed elsewhere. An interrupted run gives [`Interrupted`](Exit::Interrupted), unless it has one of the first two to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// All passed.
    Passed = result::EXIT_PASSED,
    /// An expectation failed, or a law was broken.
    Failed = result::EXIT_FAILED,
    /// The arguments or a scenario are invalid; nothing was touched.
    Invalid = result::EXIT_INVALID,
    /// Nobody can tell: the evidence is missing.
    Unproven = result::EXIT_UNPROVEN,
    /// The cluster, this machine or a file failed.
    Environment = result::EXIT_ENVIRONMENT,
    /// An undo failed: something is left in place.
    LeftInPlace = result::EXIT_LEFT_IN_PLACE,
    /// Interrupted, and undone.
    Interrupted = result::EXIT_INTERRUPTED,
}

impl Exit {
    /// Every exit code there is.
    pub const ALL: [Self; 7] =
        [Self::Passed, Self::Failed, Self::Invalid, Self::Unproven, Self::Environment, Self::LeftInPlace, Self::Interrupted];

    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_a_promise() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4, 5, 130]);
    }
}
