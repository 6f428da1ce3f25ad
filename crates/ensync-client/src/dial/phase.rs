//! How far an attempt to connect has come, for the error of one that is not done in time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

tokio::task_local! {
    static PHASE: Phase;
}

/// How far an attempt has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phase(Arc<Mutex<Option<String>>>);

impl Phase {
    /// Runs an attempt that notes in this how far it has come.
    pub(crate) async fn of<T>(&self, attempt: impl Future<Output = T>) -> T {
        PHASE.scope(self.clone(), attempt).await
    }

    fn set(&self, what: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }
}

/// Empty if nothing was noted.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(what) => write!(f, "; it waited for {what}"),
            None => Ok(()),
        }
    }
}

/// Notes what the attempt of this task waits for from now on.
pub(super) fn waits_for(what: impl fmt::Display) {
    // Outside of an attempt nobody asks.
    let _unobserved = PHASE.try_with(|phase| phase.set(what.to_string()));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::Dialer;

    /// A proxy that accepts, and then says nothing.
    #[tokio::test]
    async fn a_proxy_that_hangs_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut line = [0; 7];
            stream.read_exact(&mut line).await.unwrap();
            (line, stream)
        });
        let (phase, dialer) = (Phase::default(), Dialer::new().proxy(&proxy).unwrap());
        let to = "wss://engine.example".parse().unwrap();
        let dialling = tokio::spawn({
            let phase = phase.clone();
            async move { phase.of(dialer.dial(&to, &[])).await.map(drop) }
        });
        let (line, _open) = asked.await.unwrap();
        assert_eq!(&line, b"CONNECT");
        let told = phase.to_string();
        assert!(told.contains(&proxy) && told.contains("engine.example"), "{told}");
        assert!(!dialling.is_finished());
        dialling.abort();
        let _ = tokio::time::timeout(Duration::from_secs(1), dialling).await;
    }

    #[test]
    fn nothing_is_said_where_nothing_was_noted() {
        waits_for("nobody");
        assert_eq!(Phase::default().to_string(), "");
    }
}
