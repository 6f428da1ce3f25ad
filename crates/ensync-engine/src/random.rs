use ensync_core::{Error, ErrorKind, Result};

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|cause| {
        Error::new(ErrorKind::Internal, "the operating system gives no random bytes")
            .with_source(std::io::Error::other(cause.to_string()))
    })?;
    Ok(bytes)
}
