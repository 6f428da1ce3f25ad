//! Randomness from the operating system, never from a generator in the process: a forked or restored process repeats nothing.

use crate::{Error, ErrorKind, Result};

/// `N` random bytes.
pub(crate) fn array<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Fills `bytes`.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|cause| {
        Error::new(ErrorKind::Internal, "the operating system gives no random bytes")
            .with_source(std::io::Error::other(cause.to_string()))
    })
}
