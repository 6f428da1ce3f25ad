//! How many files and sockets the process may have open, and for whom some of them are kept.

use super::ConnectionLimits;
use crate::admin;

/// For the files of the log, of which some are held open to be read, and whatever else the process opens.
const FILES: usize = 96;

impl ConnectionLimits {
    /// Lets in no more connections than there are descriptors, less those for the log, administrators and whoever is told that he is
    /// refused: strangers' sockets must not keep the log from its files.
    pub(super) fn fit(&mut self) {
        let Some(all) = descriptors() else { return };
        let most = all.saturating_sub(kept(all)).max(1);
        if self.max_connections > most {
            tracing::warn!(
                max_connections = self.max_connections,
                descriptors = all,
                connections = most,
                "the operating system allows this process fewer connections than max_connections; raise `ulimit -n`, or LimitNOFILE of \
                 the unit"
            );
            self.max_connections = most;
        }
    }
}

fn kept(all: usize) -> usize {
    (FILES + admin::CONNECTIONS + super::listener::REFUSALS).min(all / 2)
}

#[cfg(unix)]
fn descriptors() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    usize::try_from(limit).ok()
}

#[cfg(not(unix))]
fn descriptors() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_kept_for_the_log() {
        assert_eq!([kept(65_536), kept(1_024), kept(100)], [256, 256, 50]);
        let mut limits = ConnectionLimits { max_connections: 7, ..ConnectionLimits::default() };
        limits.fit();
        assert_eq!(limits.max_connections, 7);
        limits.max_connections = usize::MAX;
        limits.fit();
        if let Some(all) = descriptors() {
            assert_eq!(limits.max_connections, all - kept(all));
        }
    }
}
