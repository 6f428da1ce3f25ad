//! What an attempt to connect has come to: for the error of one that is not done in time, for giving up one that hears nothing, and
//! for the order of addresses in the next.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    static PHASE: Phase;
}

/// How far an attempt has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phase(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    inner: Mutex<Inner>,
    trail: Arc<Trail>,
}

/// Where an attempt led, and the link that came of it: it may make other connections later.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// What is asked last.
    suspects: Suspects,
    /// Where TCP led last.
    address: Mutex<Option<SocketAddr>>,
}

impl Trail {
    /// Where TCP led last, if it was noted.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Inner {
    waits_for: Option<String>,
    /// When something was last heard, or a step was done; `None` if nothing was ever noted.
    heard: Option<Instant>,
}

impl Phase {
    /// Of an attempt that asks last for addresses that led nowhere.
    pub(crate) fn avoiding(suspects: Suspects) -> Self {
        Self::on(Arc::new(Trail { suspects, address: Mutex::default() }))
    }

    /// Of one that goes on where another came to.
    pub(super) fn on(trail: Arc<Trail>) -> Self {
        Self(Arc::new(Noted { inner: Mutex::default(), trail }))
    }

    /// Runs an attempt that notes in this how far it has come.
    pub(crate) async fn of<T>(&self, attempt: impl Future<Output = T>) -> T {
        PHASE.scope(self.clone(), attempt).await
    }

    /// Waits until nothing was heard for so long. For ever where nothing is noted, as by connectors that do not dial.
    pub(crate) async fn silent_for(&self, limit: Duration) {
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until(since + limit).await;
            match self.0.lock().heard {
                Some(heard) if heard + limit <= Instant::now() => return,
                Some(heard) => since = heard,
                None => since = Instant::now(),
            }
        }
    }

    /// Where it led.
    pub(crate) fn trail(&self) -> &Arc<Trail> {
        &self.0.trail
    }

    fn set(&self, what: String) {
        let mut inner = self.0.lock();
        inner.waits_for = Some(what);
        inner.heard = Some(Instant::now());
    }
}

impl Noted {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Empty if nothing was noted.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.lock().waits_for {
            Some(what) => write!(f, "; it waited for {what}"),
            None => Ok(()),
        }
    }
}

/// Notes what the attempt of this task waits for from now on.
pub(crate) fn waits_for(what: impl fmt::Display) {
    // Outside of an attempt nobody asks.
    let _unobserved = PHASE.try_with(|phase| phase.set(what.to_string()));
}

/// Notes where TCP led.
pub(crate) fn led_to(address: SocketAddr) {
    let _unobserved = PHASE.try_with(|phase| {
        *phase.0.trail.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    });
}

/// Whether there is an attempt of this task.
pub(super) fn is_noted() -> bool {
    PHASE.try_with(|_| ()).is_ok()
}

/// That of the attempt of this task, if there is one.
pub(super) fn trail() -> Option<Arc<Trail>> {
    PHASE.try_with(|phase| phase.0.trail.clone()).ok()
}

/// The addresses in the order in which the attempt of this task is to try them.
pub(crate) fn in_order(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    PHASE.try_with(|phase| phase.0.trail.suspects.last(addresses.clone())).unwrap_or(addresses)
}

/// Hears for the attempt that opened a connection, while that lasts.
#[derive(Debug)]
pub(super) struct Ear(Weak<Noted>);

impl Ear {
    /// For the attempt of this task, if there is one.
    pub(super) fn of_this() -> Option<Self> {
        PHASE.try_with(|phase| Self(Arc::downgrade(&phase.0))).ok()
    }

    /// Something came. False once the attempt is over.
    pub(super) fn hear(&self) -> bool {
        self.0.upgrade().is_some_and(|noted| {
            noted.lock().heard = Some(Instant::now());
            true
        })
    }
}

/// How many addresses are suspected at most.
const MOST_SUSPECTS: usize = 32;
/// For how long one is. Else it would be avoided for as long as another works, though it is well again.
const SUSPECTED: Duration = Duration::from_secs(60);

/// Addresses that TCP led to and nothing behind it: a node that hangs accepts connections all the same. They are tried after all
/// others for a while, that first which failed longest ago, so that of several addresses of a name each gets its turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspects(Arc<Mutex<Vec<(SocketAddr, Instant)>>>);

impl Suspects {
    /// An attempt by way of this address failed, or the link that came of it.
    pub(crate) fn add(&self, address: SocketAddr) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|(known, _)| *known != address);
        if list.len() >= MOST_SUSPECTS {
            list.remove(0);
        }
        list.push((address, Instant::now()));
    }

    /// It leads to an engine.
    pub(crate) fn clear(&self, address: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| *known != address);
    }

    fn last(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|(_, since)| since.elapsed() < SUSPECTED);
        // Stable: of those that nothing is known of, the resolver's order stays.
        addresses
            .sort_by_key(|address| list.iter().position(|(known, _)| known == address).map_or(0, |place| place + 1));
        addresses
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::heard::Heard;
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

    #[tokio::test(start_paused = true)]
    async fn what_led_nowhere_is_tried_last_for_a_while_and_each_gets_its_turn() {
        let [a, b, c] = ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1"].map(|address| address.parse::<SocketAddr>().unwrap());
        let suspects = Suspects::default();
        let first = |suspects: &Suspects| suspects.last(vec![a, b, c])[0];
        for expected in [a, b, c, a, b] {
            assert_eq!(first(&suspects), expected);
            suspects.add(expected);
        }
        suspects.clear(b);
        assert_eq!(suspects.last(vec![a, b, c]), [b, c, a]);
        tokio::time::advance(SUSPECTED / 2).await;
        suspects.add(b);
        assert_eq!(suspects.last(vec![a, b, c]), [c, a, b]);
        tokio::time::advance(SUSPECTED / 2).await;
        assert_eq!(suspects.last(vec![a, b, c]), [a, c, b]);
        tokio::time::advance(SUSPECTED / 2).await;
        assert_eq!(suspects.last(vec![a, b, c]), [a, b, c], "what was is forgiven");
        for port in 1..100 {
            suspects.add(SocketAddr::from(([10, 0, 0, 1], port)));
        }
        assert_eq!(suspects.0.lock().unwrap().len(), MOST_SUSPECTS);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_what_was_last_heard() {
        let (phase, second) = (Phase::default(), Duration::from_secs(1));
        let begun = Instant::now();
        let attempt = phase.of(async {
            waits_for("the answer");
            let ear = Ear::of_this().unwrap();
            for _ in 0..5 {
                tokio::time::sleep(7 * second).await;
                assert!(ear.hear());
            }
            std::future::pending::<()>().await;
        });
        tokio::select! {
            () = attempt => {}
            () = phase.silent_for(10 * second) => {}
        }
        assert_eq!(begun.elapsed(), 45 * second);
        // Whoever notes nothing is not given up.
        let quiet = Phase::default();
        assert!(tokio::time::timeout(100 * second, quiet.silent_for(second)).await.is_err());
        let ear = phase.of(async { Ear::of_this().unwrap() }).await;
        drop(phase);
        assert!(!ear.hear());
    }

    /// Whoever sends a byte now and then is heard, also where that is a proxy or within a handshake.
    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_goes_on_is_heard() {
        let (near, mut far) = tokio::io::duplex(64);
        let (phase, second, begun) = (Phase::default(), Duration::from_secs(1), Instant::now());
        let attempt = phase.of(async {
            waits_for("the TLS handshake");
            let mut near = Heard::new(near);
            // As rustls reads, which hands nothing on before all of a record is there.
            let mut record = [0; 5];
            near.read_exact(&mut record).await.unwrap();
            std::future::pending::<()>().await;
        });
        let slow = async {
            for _ in 0..5 {
                tokio::time::sleep(7 * second).await;
                far.write_all(&[22]).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = attempt => {}
            () = slow => {}
            () = phase.silent_for(10 * second) => {}
        }
        assert_eq!(begun.elapsed(), 45 * second);
    }

    /// The next connection of a link, after the engine said goodbye to the first, is dialled in no attempt.
    #[tokio::test]
    async fn the_next_connection_of_a_link_is_where_that_leads() {
        let [first, second] =
            [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let url = |listener: &TcpListener| format!("grpc://{}", listener.local_addr().unwrap()).parse().unwrap();
        let phase = Phase::default();
        let dialer = phase.of(async {
            let dialer = Dialer::new().of_this_attempt();
            dialer.dial(&url(&first), &[]).await.unwrap();
            dialer
        });
        let (dialer, trail) = (dialer.await, phase.trail().clone());
        assert_eq!(trail.address(), first.local_addr().ok());
        drop(phase);
        dialer.dial(&url(&second), &[]).await.unwrap();
        assert_eq!(trail.address(), second.local_addr().ok());
    }
}
