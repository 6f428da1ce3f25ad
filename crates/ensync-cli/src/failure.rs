//! What the program exits with.

use std::fmt;
use std::process::ExitCode;

/// 2, as for a wrong argument: what it was told cannot be done by anyone.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

/// 3: it stopped as it was told, but not everybody had finished.
#[derive(Debug)]
pub(crate) struct Unfinished(pub(crate) String);

/// The code for an error; 1 for all others.
pub(crate) fn code(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    if error.is::<Usage>() {
        ExitCode::from(2)
    } else if error.is::<Unfinished>() {
        ExitCode::from(3)
    } else {
        ExitCode::FAILURE
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
impl std::error::Error for Unfinished {}
