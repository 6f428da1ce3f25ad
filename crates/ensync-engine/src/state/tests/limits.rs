//! What apps may use up.

use std::num::NonZeroU32;

use ensync_core::{AppKey, ClientId, ErrorKind};

use super::bench::*;
use crate::model::{EventOptions, KeyHash};
use crate::state::Rate;

#[test]
fn an_app_has_so_many_sessions_and_others_do_not_notice() {
    let mut bench = Bench::with(|settings| settings.limits.max_sessions_per_app = 2, EventOptions::default());
    let first = bench.login(SHOP);
    bench.login(SHOP);
    let client = |n: u32| ClientId::parse(&format!("more-{n}")).unwrap();
    let error = bench.state.login(&key_hash(SHOP), client(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.to_string().contains("2 sessions") && error.to_string().contains("max_sessions_per_app"), "{error}");
    bench.login(WAREHOUSE);
    bench.logout(&first);
    bench.state.login(&key_hash(SHOP), client(2)).unwrap();
    bench.state.login(&key_hash(SHOP), client(3)).unwrap_err();
}

#[test]
fn an_app_publishes_so_fast_and_others_do_not_notice() {
    let rate = Rate { per_second: NonZeroU32::new(10).unwrap(), burst: NonZeroU32::new(3).unwrap() };
    let mut bench = Bench::with(|settings| settings.limits.publish_rate = Some(rate), EventOptions::default());
    // The limit is the app's, not the session's.
    let (one, two, other) = (bench.login(SHOP), bench.login(SHOP), bench.login(WAREHOUSE));
    for peer in [&one, &two, &one] {
        bench.publish_as(peer, publish("b25l")).unwrap();
    }
    let error = bench.publish_as(&two, publish("b25l")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("publish_rate") && error.to_string().contains("in 100 ms"), "{error}");
    bench.publish_as(&other, publish("b25l")).unwrap();
    bench.advance(100);
    bench.publish_as(&two, publish("b25l")).unwrap();
    refused(bench.publish_as(&one, publish("b25l")), ErrorKind::LimitExceeded);
}

#[test]
fn hashes_of_keys_are_equal_when_all_of_them_is() {
    let hash = KeyHash::of(&AppKey::parse("key").unwrap());
    assert_eq!(hash, KeyHash::from_bytes(*hash.as_bytes()));
    for bit in 0..256 {
        let mut other = *hash.as_bytes();
        other[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(hash, KeyHash::from_bytes(other));
    }
}
