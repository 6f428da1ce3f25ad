use ensync_core::{EventName, IdempotencyKey};

use super::*;
use crate::model::{EventRef, Position};

fn event(seq: u64) -> EventKey {
    EventKey { transient: false, tag: 0, event: EventRef { queue: 0, seq }, position: Position::START }
}

fn print(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n; 16])
}

fn limited(window_ms: u64, per_app: usize, total: usize) -> Dedup {
    let dedup_window = Duration::from_millis(window_ms);
    let limits = Limits { dedup_window, dedup_entries_per_app: per_app, dedup_entries: total, ..Limits::default() };
    Dedup::new(&limits, Share::WHOLE)
}

fn app(n: u8) -> AppId {
    AppId::from_bytes([n; 32])
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn seqs(held: impl Iterator<Item = (AppId, Vec<Remembered>)>) -> Vec<(u8, Vec<u64>)> {
    held.map(|(app, held)| (app.as_bytes()[0], held.iter().map(|one| one.event.event.seq).collect())).collect()
}

/// What an image that was begun tells from now on, as [`held`] does; an app is named once.
fn rest(dedup: &mut Dedup, most: usize) -> Vec<(u8, Vec<u64>)> {
    let mut told: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
    while let Some(some) = dedup.image(most) {
        for (app, more) in seqs(some.into_iter()) {
            told.entry(app).or_default().extend(more);
        }
    }
    told.into_iter().filter(|(_, seqs)| !seqs.is_empty()).collect()
}

/// What each app has.
fn held(dedup: &Dedup) -> Vec<(u8, Vec<u64>)> {
    let held = seqs(dedup.iter().map(|(app, held)| (app, held.collect())));
    let count: usize = held.iter().map(|(_, seqs)| seqs.len()).sum();
    assert!(count <= dedup.count && dedup.events.len() <= dedup.count && dedup.count <= dedup.total);
    assert_eq!(dedup.count, dedup.apps.values().map(Publishes::len).sum::<usize>());
    assert_eq!((dedup.by_count.len(), dedup.by_age.len()), (dedup.apps.len(), dedup.apps.len()));
    held
}

#[test]
fn without_a_window_nothing_is_remembered() {
    let mut dedup = limited(0, 10, 10);
    dedup.insert(app(1), print(1), event(1), at(5));
    assert!(!dedup.remembers() && dedup.find(&print(1), at(5)).is_none());
    assert_eq!(held(&dedup), []);
}

#[test]
fn the_window_closes() {
    let mut dedup = limited(100, 10, 10);
    dedup.insert(app(1), print(1), event(1), at(0));
    assert_eq!(dedup.find(&print(1), at(99)), Some(event(1)));
    assert_eq!(dedup.find(&print(1), at(100)), None);
    assert_eq!(dedup.find(&print(2), at(0)), None);
    dedup.insert(app(1), print(1), event(2), at(100));
    assert_eq!(dedup.find(&print(1), at(150)), Some(event(2)));
    assert_eq!(held(&dedup), [(1, vec![2])]);
    dedup.forget_old(at(299), 9);
    assert_eq!(held(&dedup), [(1, vec![2])]);
    assert!(!dedup.has_old(at(299)) && dedup.has_old(at(300)));
    dedup.forget_old(at(300), 0);
    assert_eq!((held(&dedup), dedup.count), (vec![], 1));
    dedup.forget_old(at(300), 9);
    assert_eq!((dedup.count, dedup.events.len(), dedup.has_old(at(300))), (0, 0, false));
}

#[test]
fn an_app_that_publishes_much_pushes_out_its_own_oldest() {
    let mut dedup = limited(1_000, 2, 10);
    dedup.insert(app(2), print(9), event(9), at(0));
    for n in 1..=3 {
        dedup.insert(app(1), print(n), event(n.into()), at(n.into()));
    }
    assert_eq!(held(&dedup), [(1, vec![2, 3]), (2, vec![9])]);
    assert_eq!([1, 2, 3, 9].map(|n| dedup.find(&print(n), at(3)).is_some()), [false, true, true, true]);
}

#[test]
fn where_there_are_too_many_the_app_with_the_most_gives_way() {
    let mut dedup = limited(1_000, 10, 4);
    for n in 1..=3 {
        dedup.insert(app(1), print(n), event(n.into()), at(n.into()));
    }
    dedup.insert(app(2), print(4), event(4), at(4));
    // The one with few takes from the one with many, and not the other way round.
    dedup.insert(app(2), print(5), event(5), at(5));
    assert_eq!(held(&dedup), [(1, vec![2, 3]), (2, vec![4, 5])]);
    for (n, sender) in [(6, 1), (7, 2), (8, 2), (9, 1)] {
        dedup.insert(app(sender), print(n), event(n.into()), at(n.into()));
    }
    assert_eq!(held(&dedup), [(1, vec![6, 9]), (2, vec![7, 8])]);
    dedup.insert(app(3), print(10), event(10), at(10));
    assert_eq!(held(&dedup).iter().map(|(_, seqs)| seqs.len()).collect::<Vec<_>>(), [2, 1, 1]);
}

#[test]
fn what_is_held_does_not_depend_on_when_the_old_was_forgotten() {
    let mut random = fastrand::Rng::with_seed(11);
    let (mut lived, mut read_back) = (limited(50, 6, 12), limited(50, 6, 12));
    let mut now = 1_000;
    for seq in 0..2_000 {
        now += random.u64(0..8);
        // A publish is inserted a while after it was accepted.
        let accepted = at(now - random.u64(0..20));
        if random.bool() {
            lived.forget_old(at(now), random.usize(0..3));
        }
        let (sender, name) = (app(random.u8(1..5)), print(random.u8(..)));
        if lived.find(&name, accepted).is_none() {
            lived.insert(sender, name, event(seq), accepted);
            read_back.insert(sender, name, event(seq), accepted);
        }
    }
    lived.forget_old(at(now), 0);
    read_back.forget_old(at(now), usize::MAX);
    assert_eq!(held(&lived), held(&read_back));
    assert!(lived.count > 6);
}

#[test]
fn nobody_gives_way_while_there_is_one_that_is_over() {
    let mut dedup = limited(100, 9, 9);
    for n in 1..=8 {
        dedup.insert(app(1), print(n), event(n.into()), at(0));
    }
    dedup.insert(app(2), print(9), event(9), at(0));
    // These are taken out a few at a time, and count for nobody meanwhile.
    for n in 10..=18 {
        dedup.insert(app(2), print(n), event(n.into()), at(100));
    }
    assert_eq!(held(&dedup), [(2, (10..=18).collect())]);
}

#[test]
fn an_image_is_what_was_held_when_it_was_begun() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut dedup = limited(50, 6, 12);
    let (mut now, mut told) = (1_000, 0);
    for round in 0..500 {
        let expected = held(&dedup);
        dedup.begin_image();
        let mut some: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        for seq in 0..random.u64(0..20) {
            now += random.u64(1..8);
            let sender = random.u8(1..5);
            let name = print(sender * 50 + random.u8(..8));
            // A key that was used may be used again, too: its queue may be gone.
            if dedup.find(&name, at(now)).is_none() || random.u8(..4) == 0 {
                dedup.insert(app(sender), name, event(round * 100 + seq), at(now));
            }
            dedup.forget_old(at(now), random.usize(0..3));
            for (app, more) in seqs(dedup.image(random.usize(1..4)).into_iter().flatten()) {
                some.entry(app).or_default().extend(more);
            }
        }
        for (app, more) in rest(&mut dedup, 2) {
            some.entry(app).or_default().extend(more);
        }
        some.retain(|_, seqs| !seqs.is_empty());
        assert_eq!(some.into_iter().collect::<Vec<_>>(), expected, "{round}");
        told += expected.len();
    }
    assert!(told > 500, "{told}");
}

#[test]
fn nothing_is_remembered_where_nothing_may_be() {
    for (per_app, total) in [(0, 9), (9, 0)] {
        let mut dedup = limited(1_000, per_app, total);
        dedup.insert(app(1), print(1), event(1), at(0));
        assert_eq!(held(&dedup), []);
    }
}

/// What the guide on sizing says is computed from these.
#[test]
fn an_entry_is_as_large_as_is_said() {
    assert_eq!(size_of::<(Fingerprint, (EventKey, Timestamp))>(), 56);
    assert_eq!(size_of::<(Fingerprint, Timestamp)>(), 24);
}

#[test]
fn each_part_of_the_name_counts() {
    let [a, b] = [AppId::from_bytes([1; 32]), AppId::from_bytes([2; 32])];
    let [e, f] = ["e", "ek"].map(|name| EventName::parse(name).unwrap());
    let [k, l] = ["k", "kk"].map(|key| IdempotencyKey::parse(key).unwrap());
    let names = [
        Fingerprint::new(&a, &b, &e, &k, false),
        Fingerprint::new(&b, &b, &e, &k, false),
        Fingerprint::new(&a, &a, &e, &k, false),
        Fingerprint::new(&b, &a, &e, &k, false),
        Fingerprint::new(&a, &b, &f, &k, false),
        // Joined without a separator, these two would be one.
        Fingerprint::new(&a, &b, &e, &l, false),
        Fingerprint::new(&a, &b, &e, &k, true),
    ];
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    assert_eq!(names[0], Fingerprint::new(&a, &b, &e, &k, false));
}
