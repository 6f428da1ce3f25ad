//! Random histories. `ENSYNC_HISTORIES` says how many, which is otherwise few.

use crate::state::harness::history;

#[test]
fn every_history_keeps_the_promises() {
    let count: u64 = std::env::var("ENSYNC_HISTORIES").map_or(100, |count| count.parse().unwrap());
    let first: u64 =
        std::env::var("ENSYNC_FIRST_HISTORY").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let mut delivered = 0;
    for seed in (first..=u64::MAX).chain(0..).take(usize::try_from(count).unwrap()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let length = random.usize(1..700);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        let lived = std::panic::catch_unwind(|| history(&bytes));
        let Ok(any) = lived else { panic!("ENSYNC_FIRST_HISTORY={seed} ENSYNC_HISTORIES=1 shows it again") };
        delivered += u64::from(any);
    }
    // Histories in which nothing happens would prove nothing.
    assert!(delivered * 2 > count, "{delivered} of {count}");
}
