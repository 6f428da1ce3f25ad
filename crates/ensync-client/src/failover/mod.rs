//! The URLs of an engine: its first, and those to fall back to.
//!
//! A transport is one connection and tries once. This is one level above: it tries one transport after the other, within one
//! deadline, and remembers which it was that worked.

mod choose;
mod options;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::{AppKey, Connector, Endpoint, Error, ErrorKind, Link, Result, report};
use tokio::time::Instant;
use tracing::Instrument;

use crate::dial::{Phase, Suspects, Trail};
use crate::observe::Connecting;

/// For how long the URL that worked last comes first. After that the first is tried again, at the next connection.
const REMEMBERED: Duration = Duration::from_secs(10 * 60);

/// The URLs of an engine in the order they were given, at least one, and what serves each. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Endpoints {
    list: Arc<[Candidate]>,
    /// Which of them worked last, and when: what one client found out, the engine's others know.
    worked: Arc<Mutex<Option<(usize, Instant)>>>,
}

/// One URL, and what serves it.
#[derive(Clone)]
struct Candidate {
    endpoint: Endpoint,
    connector: Arc<dyn Connector>,
}

impl Endpoints {
    pub(crate) fn new(endpoint: Endpoint, connector: Arc<dyn Connector>) -> Self {
        Self::of(vec![Candidate { endpoint, connector }])
    }

    fn of(list: Vec<Candidate>) -> Self {
        Self { list: list.into(), worked: Arc::default() }
    }

    /// The first.
    pub(crate) fn first(&self) -> &Endpoint {
        &self.candidate(0).endpoint
    }

    /// One more, for when those before it do not lead there.
    fn and(&self, endpoint: Endpoint, connector: Arc<dyn Connector>) -> Result<Self> {
        let secure = self.list.iter().find(|candidate| candidate.endpoint.tls());
        if let Some(before) = secure.filter(|_| !endpoint.tls() && !endpoint.is_loopback()) {
            return Err(Error::new(
                ErrorKind::InvalidUrl,
                format!(
                    "fallback: {endpoint} is plaintext and {} is TLS; whoever can cut a connection could make the client give up \
                     encryption. Use a grpcs:// or wss:// URL",
                    before.endpoint
                ),
            ));
        }
        if self.list.iter().any(|candidate| candidate.endpoint == endpoint) {
            return Err(Error::new(ErrorKind::InvalidUrl, format!("fallback: {endpoint} is among the URLs already")));
        }
        let more = Candidate { endpoint, connector };
        Ok(Self::of(self.list.iter().cloned().chain([more]).collect()))
    }

    /// The same URLs by other connectors. Where none can be made, the one of before stays.
    fn by(&self, connector: impl Fn(&Endpoint) -> Result<Arc<dyn Connector>>) -> Self {
        let renewed = |candidate: &Candidate| match connector(&candidate.endpoint) {
            Ok(connector) => Candidate { endpoint: candidate.endpoint.clone(), connector },
            Err(_) => candidate.clone(),
        };
        Self::of(self.list.iter().map(renewed).collect())
    }

    #[expect(clippy::indexing_slicing, reason = "indices come from the list itself, which never changes")]
    fn candidate(&self, index: usize) -> &Candidate {
        &self.list[index]
    }

    /// In which order to try them now.
    fn order(&self) -> Vec<usize> {
        let worked = *self.worked.lock().unwrap_or_else(PoisonError::into_inner);
        let first = worked.filter(|(_, when)| when.elapsed() < REMEMBERED).map(|(candidate, _)| candidate);
        let others = (0..self.list.len()).filter(|candidate| Some(*candidate) != first);
        first.into_iter().chain(others).collect()
    }

    fn remember(&self, candidate: usize) {
        let mut worked = self.worked.lock().unwrap_or_else(PoisonError::into_inner);
        // Its time runs from when it was found, or a client that reconnects often would never come back to the first.
        if worked.is_none_or(|(known, when)| known != candidate || when.elapsed() >= REMEMBERED) {
            *worked = Some((candidate, Instant::now()));
        }
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list.iter().map(|candidate| candidate.endpoint.to_string())).finish()
    }
}

/// One client's connector: all URLs of its engine, and the one that it is on.
#[derive(Debug)]
pub(crate) struct Failover {
    endpoints: Endpoints,
    limit: Duration,
    current: AtomicUsize,
    /// Whether it ever led anywhere.
    connected: AtomicBool,
    suspects: Suspects,
    /// Where the last connection led.
    trail: Mutex<Option<Arc<Trail>>>,
}

impl Failover {
    /// `limit` is what the whole of a connection may take.
    pub(crate) fn new(endpoints: Endpoints, limit: Duration) -> Self {
        let (current, connected) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { endpoints, limit, current, connected, suspects: Suspects::default(), trail: Mutex::default() }
    }

    /// Where the last connection led, or the first is tried.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoints.candidate(self.current.load(Ordering::Acquire)).endpoint
    }

    /// The last connection failed: what is at its address may hang.
    pub(crate) fn failed(&self) {
        let trail = self.trail.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(address) = trail.and_then(|trail| trail.address()) {
            self.suspects.add(address);
        }
    }

    /// Makes one attempt, within a limit. One that hears nothing is given up sooner: at half of what all of a connection may take.
    async fn attempt(&self, candidate: &Candidate, app_key: &AppKey, limit: Duration) -> Result<Link> {
        let (endpoint, phase) = (&candidate.endpoint, Phase::avoiding(self.suspects.clone()));
        let silence = self.limit / 2;
        let attempt = async {
            let error = tokio::select! {
                biased;
                // An engine may repeat what it was sent.
                outcome = phase.of(candidate.connector.connect(endpoint, app_key)) => {
                    return outcome.map_err(|error| error.without(app_key.expose()));
                }
                () = tokio::time::sleep(limit) => format!("not connected and logged in within {limit:?}"),
                () = phase.silent_for(silence) => format!("nothing was heard for {silence:?}"),
            };
            Err(Error::new(ErrorKind::Connect, format!("cannot connect to {endpoint}: {error}{phase}")))
        };
        let outcome = self.watched(endpoint, attempt).await;
        match phase.trail().address() {
            Some(address) if outcome.is_ok() => self.suspects.clear(address),
            Some(address) => self.suspects.add(address),
            None => {}
        }
        if outcome.is_ok() {
            *self.trail.lock().unwrap_or_else(PoisonError::into_inner) = Some(phase.trail().clone());
        }
        outcome
    }

    /// Makes an attempt under the eyes of whoever observes.
    async fn watched(&self, endpoint: &Endpoint, attempt: impl Future<Output = Result<Link>>) -> Result<Link> {
        let connecting = Connecting::begin(endpoint);
        let outcome = attempt.instrument(connecting.span()).await;
        let again = outcome.is_ok() && self.connected.swap(true, Ordering::Relaxed);
        connecting.end(outcome, again)
    }

    async fn try_all(&self, app_key: &AppKey) -> Result<(usize, Link)> {
        let order = self.endpoints.order();
        let deadline = Instant::now() + self.limit;
        let mut failures = Vec::new();
        for (tried, &index) in order.iter().enumerate() {
            let candidate = self.endpoints.candidate(index);
            let endpoint = &candidate.endpoint;
            // One that does not answer leaves the others their share.
            let left = u32::try_from(order.len() - tried).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
            match self.attempt(candidate, app_key, share).await {
                Ok(link) => {
                    self.endpoints.remember(index);
                    return Ok((index, link));
                }
                Err(error) if !choose::another_way_may_help(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(%endpoint, error = %report(&error), "not reached; trying the next URL");
                    failures.push((endpoint.clone(), error));
                }
            }
        }
        Err(choose::none_leads_there(failures))
    }
}

#[async_trait]
impl Connector for Failover {
    async fn connect(&self, _: &Endpoint, app_key: &AppKey) -> Result<Link> {
        let (index, link) = match &*self.endpoints.list {
            [only] => (0, self.attempt(only, app_key, self.limit).await?),
            _ => self.try_all(app_key).await?,
        };
        self.current.store(index, Ordering::Release);
        if index > 0 {
            tracing::info!(endpoint = %self.endpoint(), instead_of = %self.endpoints.first(), "connected by a fallback");
        }
        Ok(link)
    }
}

#[cfg(test)]
mod tests;
