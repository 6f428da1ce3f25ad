//! DNS and TCP. Several addresses race, each a head start behind the one before it (RFC 8305, "happy eyeballs").

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;

use super::heard::Heard;
use super::phase::{in_order, led_to};
use super::stream::Tcp;

/// How long an address may be tried before the next is tried beside it: RFC 8305 section 8.
const HEAD_START: Duration = Duration::from_millis(250);

/// Why there is no TCP connection.
#[derive(Debug)]
pub(super) struct Failed {
    why: Why,
    pub(super) cause: io::Error,
}

#[derive(Debug, PartialEq)]
enum Why {
    Unresolved(String),
    NobodyListens,
    NoAnswer,
    Other,
}

impl Failed {
    /// What happened; `whom` is what should be there.
    pub(super) fn told(&self, whom: &str) -> String {
        match &self.why {
            Why::Unresolved(host) => format!("host name {host:?} does not resolve"),
            Why::NobodyListens => format!("nobody listens there (is the {whom} running, is the port right?)"),
            Why::NoAnswer => "no answer (a firewall, or the wrong host?)".to_owned(),
            Why::Other => "TCP connection failed".to_owned(),
        }
    }
}

/// Connects to the first of the host's addresses that answers.
pub(super) async fn connect(host: &str, port: u16) -> Result<Tcp, Failed> {
    let addresses: Vec<_> = match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(cause) => return Err(Failed { why: Why::Unresolved(host.to_owned()), cause }),
    };
    let tcp = race(in_order(addresses), TcpStream::connect).await.map_err(|cause| {
        let why = match cause.kind() {
            io::ErrorKind::ConnectionRefused => Why::NobodyListens,
            io::ErrorKind::TimedOut => Why::NoAnswer,
            _ => Why::Other,
        };
        Failed { why, cause }
    })?;
    if let Ok(address) = tcp.peer_addr() {
        led_to(address);
    }
    if let Err(cause) = tcp.set_nodelay(true) {
        tracing::debug!(host, port, %cause, "TCP_NODELAY is not to be had");
    }
    Ok(Heard::new(tcp))
}

/// Tries addresses until one connects: the next when one fails, or has had its head start. The others are let go of. The error is
/// that of the last to fail.
async fn race<T, F>(addresses: Vec<SocketAddr>, mut connect: impl FnMut(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = interleaved(addresses).into_iter();
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    let mut try_next = true;
    loop {
        if std::mem::take(&mut try_next)
            && let Some(address) = waiting.next()
        {
            let attempt = connect(address);
            running.push(async move { (address, attempt.await) });
        }
        let more = waiting.len() > 0;
        tokio::select! {
            biased;
            outcome = running.next() => match outcome {
                Some((_, Ok(connected))) => return Ok(connected),
                Some((address, Err(cause))) => {
                    last = io::Error::new(cause.kind(), format!("{address}: {cause}"));
                    try_next = true;
                }
                None => return Err(last),
            },
            () = tokio::time::sleep(HEAD_START), if more => try_next = true,
        }
    }
}

/// The two families by turns, beginning with the one that the resolver put first: RFC 8305 section 4.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == v6_first);
    let mut order = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.drain(..), second.drain(..));
    loop {
        match (first.next(), second.next()) {
            (None, None) => return order,
            (a, b) => order.extend(a.into_iter().chain(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    /// How an address of a test behaves: 10.0.0.n connects after n × 100 ms, 10.1.0.n fails after that.
    async fn dialled(address: SocketAddr) -> io::Result<SocketAddr> {
        let SocketAddr::V4(v4) = address else { return std::future::pending().await };
        let [_, fails, _, n] = v4.ip().octets();
        tokio::time::sleep(Duration::from_millis(100) * n.into()).await;
        if fails == 1 { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(address) }
    }

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 1)).collect()
    }

    /// Who won, after how many milliseconds, and when each was tried.
    async fn run(list: &[&str]) -> (Result<String, String>, u128, Vec<(String, u128)>) {
        let (since, tried) = (Instant::now(), Mutex::new(Vec::new()));
        let outcome = race(addresses(list), |address| {
            tried.lock().unwrap().push((address.ip().to_string(), since.elapsed().as_millis()));
            dialled(address)
        })
        .await;
        let outcome = outcome.map(|address| address.ip().to_string()).map_err(|cause| cause.to_string());
        (outcome, since.elapsed().as_millis(), tried.into_inner().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_first_address_is_the_only_one_tried() {
        let (outcome, after, tried) = run(&["10.0.0.2", "10.0.0.1"]).await;
        assert_eq!((outcome.as_deref(), after), (Ok("10.0.0.2"), 200));
        assert_eq!(tried, [("10.0.0.2".to_owned(), 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_answer_costs_its_head_start() {
        let (outcome, after, tried) = run(&["2001:db8::1", "2001:db8::2", "10.0.0.1"]).await;
        assert_eq!((outcome.as_deref(), after), (Ok("10.0.0.1"), 350));
        assert_eq!(tried, [("2001:db8::1".to_owned(), 0), ("10.0.0.1".to_owned(), 250)]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_costs_no_more_than_its_failure() {
        let (outcome, after, tried) = run(&["10.1.0.1", "10.1.0.1", "10.0.0.1"]).await;
        assert_eq!((outcome.as_deref(), after), (Ok("10.0.0.1"), 300));
        assert_eq!(tried.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 100, 200]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_may_still_win_over_a_later_one() {
        let (outcome, after, _) = run(&["10.0.0.4", "10.0.0.9"]).await;
        assert_eq!((outcome.as_deref(), after), (Ok("10.0.0.4"), 400));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_failure_is_the_one_that_is_told() {
        let (outcome, _, tried) = run(&["10.1.0.9", "10.1.0.1"]).await;
        assert!(outcome.unwrap_err().starts_with("10.1.0.9:1: "));
        assert_eq!(tried.len(), 2);
        assert!(run(&[]).await.0.unwrap_err().contains("no addresses"));
    }

    #[test]
    fn families_take_turns() {
        let order = interleaved(addresses(&["::1", "::2", "::3", "10.0.0.1"]));
        assert_eq!(order, addresses(&["::1", "10.0.0.1", "::2", "::3"]));
        let order = interleaved(addresses(&["10.0.0.1", "::1", "10.0.0.2", "::2"]));
        assert_eq!(order, addresses(&["10.0.0.1", "::1", "10.0.0.2", "::2"]));
    }
}
