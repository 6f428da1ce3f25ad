use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::crypto::{Expected, Opener, Recipient, Sealer, Suite};
use crate::{SecretKey, WirePayload, encoding};

/// A clock that a test moves.
#[derive(Clone, Default)]
struct Hands(Arc<AtomicU64>);

impl Hands {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let (start, hands) = (Instant::now(), self.clone());
        Clock::new(move || start + Duration::from_millis(hands.0.load(Ordering::Relaxed)))
    }
}

/// What is agreed on is the number of agreements made before.
struct Writer {
    writing: Writing<u8, u32>,
    made: AtomicU64,
    hands: Hands,
}

impl Writer {
    fn new(keep: Keep) -> Self {
        let hands = Hands::default();
        let writing = Writing { clock: hands.clock(), ..Writing::new(keep) };
        Self { writing, made: AtomicU64::new(0), hands }
    }

    fn agree(&self, with: u8) -> u32 {
        let fresh = || Ok(u32::try_from(self.made.fetch_add(1, Ordering::Relaxed)).unwrap());
        *self.writing.agree(&with, fresh).unwrap()
    }
}

#[test]
fn a_writer_counts_events() {
    let writer = Writer::new(Keep::new(3, Duration::from_secs(60)).unwrap());
    let agreed: Vec<u32> = (0..7).map(|_| writer.agree(0)).collect();
    assert_eq!(agreed, [0, 0, 0, 1, 1, 1, 2]);
    assert_eq!(writer.agree(1), 3, "another recipient");
    assert_eq!(writer.agree(0), 2);
}

#[test]
fn a_writer_ends_in_time_whatever_is_left() {
    let writer = Writer::new(Keep::default());
    assert_eq!(writer.agree(0), 0);
    writer.hands.advance(Duration::from_millis(59_999));
    assert_eq!(writer.agree(0), 0, "use does not prolong it, nor end it");
    writer.hands.advance(Duration::from_millis(1));
    assert_eq!(writer.agree(0), 1);
    writer.hands.advance(Duration::from_secs(59));
    assert_eq!(writer.agree(0), 1, "its time began when it was made");
}

#[test]
fn one_event_means_none_kept() {
    for keep in [Keep::NONE, Keep::new(1, Duration::from_secs(60)).unwrap(), Keep::new(9, Duration::ZERO).unwrap()] {
        let writer = Writer::new(keep);
        assert_eq!([writer.agree(0), writer.agree(0), writer.agree(0)], [0, 1, 2]);
        assert_eq!(format!("{:?}", writer.writing), "0 agreements");
    }
}

#[test]
fn a_writer_wipes_what_has_ended() {
    let writer = Writer::new(Keep::default());
    let held = Arc::new(());
    let weak = Arc::downgrade(&held);
    let writing = Writing { clock: writer.hands.clock(), ..Writing::new(Keep::default()) };
    drop(writing.agree(&0, || Ok(held)).unwrap());
    writing.tidy();
    assert!(weak.upgrade().is_some());
    writer.hands.advance(Duration::from_secs(60));
    writing.tidy();
    assert!(weak.upgrade().is_none());

    writer.agree(0);
    writer.writing.forget();
    assert_eq!(writer.agree(0), 1);
}

#[test]
fn a_failure_is_not_kept() {
    let writer = Writer::new(Keep::default());
    let fail = || Err(Error::new(ErrorKind::Internal, "no randomness"));
    assert!(writer.writing.agree(&0, fail).is_err());
    assert_eq!(writer.agree(0), 0);
}

fn reader() -> (Reading<usize, usize>, Hands) {
    let hands = Hands::default();
    (Reading::new(hands.clock()), hands)
}

#[test]
fn a_reader_keeps_what_opened_lately() {
    let (reading, hands) = reader();
    reading.opened(1, Arc::new(10));
    hands.advance(IDLE - Duration::from_millis(1));
    assert_eq!(reading.find(&1).as_deref(), Some(&10));
    hands.advance(Duration::from_millis(1));
    assert_eq!(reading.find(&1), None, "finding alone does not keep it");

    reading.opened(1, Arc::new(11));
    hands.advance(IDLE / 2);
    reading.opened(1, Arc::new(11));
    hands.advance(IDLE / 2);
    assert_eq!(reading.find(&1).as_deref(), Some(&11));
    hands.advance(IDLE / 2);
    reading.tidy();
    assert_eq!(reading.len(), 0);
}

#[test]
fn a_reader_keeps_a_bounded_number_and_drops_the_least_recently_used() {
    let (reading, _) = reader();
    for with in 0..MOST {
        reading.opened(with, Arc::new(with));
    }
    reading.opened(0, Arc::new(0));
    for with in MOST..MOST + 9 {
        reading.opened(with, Arc::new(with));
    }
    assert_eq!(reading.len(), MOST);
    assert!(reading.find(&0).is_some());
    assert!((1..=9).all(|with| reading.find(&with).is_none()));
    assert!((10..MOST + 9).all(|with| reading.find(&with).is_some()));
    reading.forget();
    assert_eq!(reading.len(), 0);
}

#[test]
fn limits_have_limits() {
    for (events, time) in [(0, 60), (65_537, 60), (256, 601)] {
        assert_eq!(Keep::new(events, Duration::from_secs(time)).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(Keep::new(Keep::MAX_EVENTS, Keep::MAX_TIME).is_ok());
}

const SUITES: [Suite; 2] = [Suite::Nacl, Suite::Aes256Gcm];

fn seal(sealer: &Sealer, suite: Suite, to: &SecretKey) -> WirePayload {
    let to = Recipient::new(to.app_id().unwrap()).unwrap();
    sealer.seal(b"{}", &[to], &"a/b".parse().unwrap(), suite).unwrap().remove(0)
}

/// The ephemeral key, by which one agreement can be told from another.
fn ephemeral(sealed: &WirePayload) -> String {
    let json = |text: &str| serde_json::from_slice::<serde_json::Value>(&encoding::decode(text).unwrap()).unwrap();
    let envelope = json(sealed.as_str().unwrap());
    match envelope["header"].as_str() {
        Some(header) => json(header)["enc"].to_string(),
        None => envelope["ephemeralPublicKey"].to_string(),
    }
}

#[test]
fn a_sealer_keeps_an_agreement_for_60_s_by_default() {
    let to = SecretKey::from_seed([2; 32]);
    for suite in SUITES {
        let hands = Hands::default();
        let sealer = Sealer::new().own_key(SecretKey::from_seed([1; 32])).clock(&hands.clock());
        let first = ephemeral(&seal(&sealer, suite, &to));
        hands.advance(Duration::from_millis(59_999));
        assert_eq!(first, ephemeral(&seal(&sealer, suite, &to)));
        hands.advance(Duration::from_millis(1));
        assert_ne!(first, ephemeral(&seal(&sealer, suite, &to)));
    }
}

#[test]
fn an_opener_forgets_what_idles_for_10_minutes() {
    let (hands, to) = (Hands::default(), SecretKey::from_seed([2; 32]));
    let opener = Opener::new(to.clone().into()).clock(&hands.clock());
    let events = SUITES.map(|suite| seal(&Sealer::new(), suite, &to));
    for sealed in &events {
        opener.open(sealed, &Expected::any_event()).unwrap();
    }
    hands.advance(Duration::from_secs(599));
    opener.tidy();
    assert!(format!("{opener:?}").contains("nacl: 1 agreements, sealed: 1 agreements"));
    opener.open(&events[0], &Expected::any_event()).unwrap();
    hands.advance(Duration::from_secs(1));
    opener.tidy();
    assert!(format!("{opener:?}").contains("nacl: 1 agreements, sealed: 0 agreements"));
    assert!(opener.open(&events[1], &Expected::any_event()).is_ok());
}
