//! The commands, one a file.

pub(crate) mod keygen;
pub(crate) mod publish;
pub(crate) mod serve;
pub(crate) mod subscribe;

/// What a command returns: any error, for the last line on standard error.
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;
