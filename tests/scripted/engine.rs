//! A small engine in memory that behaves as its script says, and knows what it has stored.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use ensync_core::{
    AppId, Block, ClientId, Command, Delivery, Error, ErrorKind, EventId, EventName, Extension, Login, Metadata, Peer,
    Publish, Reply, Result, SecretKey, ServerConfig, Service, Session, Settlement, Welcome, WirePayload,
};
use futures::StreamExt;
use futures::channel::mpsc;
use tokio_util::sync::CancellationToken;

pub const EVENT: &str = "orders/placed";

/// What an engine does that no good one does. Numbers count publishes, unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    Well,
    NeverAnswers(u64),
    AnswersLate(u64, Duration),
    AnswersOutOfTurn(u64),
    /// Each connection, after so many requests.
    ClosesAfter(u64),
    /// Every so many.
    ResetsStreams(u64),
    /// Every so many, which it has stored, as a proxy does whose engine went away: REFUSED_STREAM. It knows no extension.
    GivesBackWhatItDid(u64),
    /// Each connection, after so many requests, while one is not answered yet.
    GoesAway(u64),
    /// So many times, in the engine's own words.
    RefusesLogins(u64, &'static str),
    /// So many times, with this status.
    RefusesLoginsByHttp(u64, u16),
    ForgetsTheSession(u64),
    IgnoresPause,
    KnowsNoExtension,
    SendsUnknownNames,
    SendsWrongIds,
    SendsWhatIsTooLarge,
    /// Every tenth.
    RefusesForEver,
    SendsSlowly,
}

/// How a gateway answers that does not let anybody through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gateway {
    /// With a page.
    Http(u16),
    /// With a gRPC status, as those do that know what a gRPC request is.
    Grpc(u8),
}

pub struct Script {
    pub behaviour: Behaviour,
    pub key: SecretKey,
    pub app_id: AppId,
    pub publishes: AtomicU64,
    /// Logins that were asked for, where some are refused.
    asked: AtomicU64,
    /// It answers nothing but logins, subscriptions and heartbeats.
    mute: AtomicBool,
    /// What a gateway in between answers instead of it.
    gateway: Mutex<Option<Gateway>>,
    /// Ends the connections that are open.
    cut: Mutex<CancellationToken>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    /// How often each number was stored.
    stored: HashMap<u64, u64>,
    by_key: HashMap<String, EventId>,
    ready: VecDeque<Delivery>,
    sessions: HashMap<ClientId, Open>,
    forgot: bool,
    logins: usize,
    pauses: usize,
}

struct Open {
    inbox: mpsc::UnboundedSender<Delivery>,
    subscribed: bool,
    paused: bool,
    unsettled: HashMap<EventId, Delivery>,
}

impl Script {
    pub fn new(behaviour: Behaviour) -> Arc<Self> {
        let key = SecretKey::generate().unwrap();
        let (publishes, asked) = (AtomicU64::new(0), AtomicU64::new(0));
        let (mute, cut, inner) = (AtomicBool::default(), Mutex::default(), Mutex::default());
        let (app_id, gateway) = (key.app_id().unwrap(), Mutex::default());
        Arc::new(Self { behaviour, app_id, key, publishes, asked, mute, gateway, cut, inner })
    }

    /// It answers nothing more; or it does again, over new connections.
    pub fn mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
        if !mute {
            std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
        }
    }

    /// A gateway answers instead of it from now on, or lets everybody through.
    pub fn turn_away(&self, gateway: Option<Gateway>) {
        *self.gateway.lock().unwrap() = gateway;
    }

    pub fn turned_away(&self) -> Option<Gateway> {
        *self.gateway.lock().unwrap()
    }

    pub fn is_mute(&self) -> bool {
        self.mute.load(Ordering::Relaxed)
    }

    pub fn cut(&self) -> CancellationToken {
        self.cut.lock().unwrap().clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn logins(&self) -> usize {
        self.inner().logins
    }

    pub fn pauses(&self) -> usize {
        self.inner().pauses
    }

    pub fn stored(&self) -> HashMap<u64, u64> {
        self.inner().stored.clone()
    }

    pub fn deduplicates(&self) -> bool {
        !matches!(self.behaviour, Behaviour::KnowsNoExtension | Behaviour::GivesBackWhatItDid(_))
    }

    /// Whether this login is turned away with an HTTP status.
    pub fn status_of_login(&self) -> Option<u16> {
        match self.behaviour {
            Behaviour::RefusesLoginsByHttp(times, status) if self.asked.fetch_add(1, Ordering::Relaxed) < times => {
                Some(status)
            }
            _ => None,
        }
    }

    fn config(&self) -> ServerConfig {
        let list: Vec<_> =
            [Extension::Deduplication, Extension::Fencing, Extension::Leases].map(Extension::name).into();
        let pairs = [(ServerConfig::EXTENSIONS, list.join("+")), (ServerConfig::DEDUP_WINDOW_MS, "120000".to_owned())];
        if self.deduplicates() { pairs.into_iter().collect() } else { ServerConfig::default() }
    }

    fn publish(&self, publish: Publish) -> Result<Reply> {
        let count = self.publishes.fetch_add(1, Ordering::Relaxed) + 1;
        let headers: serde_json::Value = serde_json::from_str(publish.metadata.as_str()).unwrap();
        let n: u64 = headers["headers"]["n"].as_str().unwrap().parse().unwrap();
        if self.behaviour == Behaviour::RefusesForEver && n % 10 == 3 {
            return Err(Error::new(ErrorKind::LimitExceeded, "too much; try again later"));
        }
        let mut inner = self.inner();
        let key = publish.idempotency_key.as_ref().filter(|_| self.deduplicates()).map(|key| key.as_str().to_owned());
        if let Some(id) = key.as_ref().and_then(|key| inner.by_key.get(key)) {
            return Ok(Reply::Published { id: id.clone() });
        }
        inner.next += 1;
        let id = EventId::parse(&format!("e-{}", inner.next)).unwrap();
        if let Some(key) = key {
            inner.by_key.insert(key, id.clone());
        }
        *inner.stored.entry(n).or_default() += 1;
        let delivery = self.delivery(&publish.event, &id, publish.payload, publish.metadata);
        if count.is_multiple_of(5) {
            let odd = match self.behaviour {
                Behaviour::SendsUnknownNames => Some((format!("nobody/asked/{count}"), WirePayload::from_wire("e30="))),
                Behaviour::SendsWrongIds => Some((EVENT.to_owned(), WirePayload::from_wire("e30="))),
                Behaviour::SendsWhatIsTooLarge if count == 20 => {
                    Some((EVENT.to_owned(), WirePayload::from_wire("A".repeat(17 << 20))))
                }
                _ => None,
            };
            if let Some((name, payload)) = odd {
                let (name, id) = (EventName::parse(&name).unwrap(), EventId::parse(&format!("odd-{count}")).unwrap());
                inner.ready.push_back(self.delivery(&name, &id, payload, Metadata::default()));
            }
        }
        inner.ready.push_back(delivery);
        if self.behaviour == Behaviour::ForgetsTheSession(count) && !std::mem::replace(&mut inner.forgot, true) {
            let left: Vec<_> = inner.sessions.drain().flat_map(|(_, open)| open.unsettled.into_values()).collect();
            inner.ready.extend(left);
        }
        inner.dispatch(self.behaviour == Behaviour::IgnoresPause);
        Ok(Reply::Published { id })
    }

    fn delivery(&self, event: &EventName, id: &EventId, payload: WirePayload, metadata: Metadata) -> Delivery {
        Delivery {
            event: event.clone(),
            id: id.clone(),
            block: Block::new(1).unwrap(),
            payload,
            metadata,
            sender: Some(self.app_id),
            recipient: Some(self.app_id),
            timestamp: None,
            attempt: None,
            lease: self.deduplicates().then_some(Duration::from_secs(60)),
        }
    }
}

impl Inner {
    fn dispatch(&mut self, ignores_pause: bool) {
        let Some(open) = self.sessions.values_mut().find(|open| open.subscribed && (!open.paused || ignores_pause))
        else {
            return;
        };
        while let Some(delivery) = self.ready.pop_front() {
            // What is odd is sent once only: its name or its payload would come back for ever.
            if !delivery.id.as_str().starts_with("odd") {
                open.unsettled.insert(delivery.id.clone(), delivery.clone());
            }
            if open.inbox.unbounded_send(delivery).is_err() {
                open.subscribed = false;
                self.ready.extend(open.unsettled.drain().map(|(_, delivery)| delivery));
                return;
            }
        }
    }
}

#[async_trait]
impl Service for Script {
    async fn login(&self, _: Login) -> Result<Session> {
        if let Behaviour::RefusesLogins(times, words) = self.behaviour
            && self.asked.fetch_add(1, Ordering::Relaxed) < times
        {
            return Err(Error::from_refusal(words));
        }
        let (inbox, receiver) = mpsc::unbounded();
        let client_id = {
            let mut inner = self.inner();
            inner.next += 1;
            inner.logins += 1;
            let client_id = ClientId::parse(&format!("c-{}", inner.next)).unwrap();
            let open = Open { inbox, subscribed: false, paused: false, unsettled: HashMap::new() };
            inner.sessions.insert(client_id.clone(), open);
            client_id
        };
        Ok(Session {
            peer: Peer { client_id: client_id.clone(), app_id: self.app_id },
            inbox: receiver.boxed(),
            welcome: Welcome { client_id, app_id: Some(self.app_id), config: self.config() },
        })
    }

    async fn handle(&self, peer: &Peer, command: Command) -> Result<Reply> {
        if !self.inner().sessions.contains_key(&peer.client_id) {
            return Err(Error::new(ErrorKind::Unauthenticated, "no such session; log in again"));
        }
        if let Command::Publish(publish) = command {
            return self.publish(publish);
        }
        let mut inner = self.inner();
        let Some(open) = inner.sessions.get_mut(&peer.client_id) else { return Ok(Reply::Done) };
        let mut reply = Reply::Done;
        match command {
            Command::Subscribe(_) => (open.subscribed, open.paused) = (true, false),
            Command::Unsubscribe { event } if event.as_str() == EVENT => open.subscribed = false,
            Command::Pause { event, .. } if event.as_str() == EVENT => {
                open.paused = true;
                inner.pauses += 1;
            }
            Command::Continue { .. } => open.paused = false,
            Command::Settle(settle) => match settle.how {
                Settlement::Ack | Settlement::Discard { .. } => {
                    if open.unsettled.remove(&settle.id).is_none() {
                        return Err(Error::new(ErrorKind::StaleDelivery, "not this session's"));
                    }
                }
                Settlement::Extend => reply = Reply::Extended { lease: Some(Duration::from_secs(60)) },
                _ => {
                    let back = open.unsettled.remove(&settle.id);
                    inner.ready.extend(back);
                }
            },
            Command::Release { event } if event.as_str() == EVENT => {
                open.subscribed = false;
                let back: Vec<_> = open.unsettled.drain().map(|(_, delivery)| delivery).collect();
                inner.ready.extend(back);
            }
            Command::Replay { .. } => return Err(Error::new(ErrorKind::NotFound, "no such event")),
            _ => {}
        }
        inner.dispatch(self.behaviour == Behaviour::IgnoresPause);
        Ok(reply)
    }

    async fn logout(&self, peer: &Peer) {
        let mut inner = self.inner();
        if let Some(open) = inner.sessions.remove(&peer.client_id) {
            inner.ready.extend(open.unsettled.into_values());
            inner.dispatch(self.behaviour == Behaviour::IgnoresPause);
        }
    }
}

/// What was received, by number.
pub type Received = HashSet<u64>;
