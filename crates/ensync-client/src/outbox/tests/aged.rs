//! How old events become while the machine's clock is set.

use super::super::clock::tests::Machine;
use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Puts one in as the outbox's thread does.
fn put_now(store: &mut Store, n: u8) {
    let entry = Entry { at: store.look(), ..entry(n) };
    store.put(|batch| batch.put(std::slice::from_ref(&entry), entry.at)).unwrap();
}

/// How many wait, as far as a drain finds them, and how many expired.
fn looked_at(store: &mut Store) -> (usize, usize) {
    let now = store.look();
    let (waiting, outcomes) = waiting(store, now);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, OutboxOutcome::Expired { .. })), "{outcomes:?}");
    (waiting.len(), outcomes.len())
}

#[test]
fn nothing_expires_because_the_clock_is_set_right() {
    let (place, machine) = (Place::new(), Machine::at("1970-01-01T00:00:10Z"));
    let mut store = place.store_by(OutboxOptions::new(), machine.source()).unwrap();
    put_now(&mut store, 1);
    machine.run(5 * HOUR);
    assert_eq!(looked_at(&mut store), (1, 0));
    machine.set("2026-11-28T10:00:00Z");
    assert_eq!(looked_at(&mut store), (1, 0));
    // What is shown of it is set right as well.
    assert_eq!(store.now().status.oldest, Some("2026-11-28T05:00:00Z".parse().unwrap()));
    put_now(&mut store, 2);
    drop(store);
    // That it was set is known to the next process.
    machine.run(HOUR);
    let mut store = place.store_by(OutboxOptions::new(), machine.source()).unwrap();
    assert_eq!(store.now().status.oldest, Some("2026-11-28T05:00:00Z".parse().unwrap()));
    assert_eq!(looked_at(&mut store), (2, 0));
    // Time that passes counts.
    machine.run(WEEK - 6 * HOUR);
    assert_eq!(looked_at(&mut store), (2, 0));
    machine.run(5 * HOUR);
    assert_eq!(looked_at(&mut store), (1, 1));
    machine.run(2 * HOUR);
    assert_eq!(looked_at(&mut store), (0, 1));
}

#[test]
fn a_clock_that_is_set_back_lets_nothing_wait_for_ever() {
    let (place, machine) = (Place::new(), Machine::at("2026-11-28T10:00:00Z"));
    let mut store = place.store_by(OutboxOptions::new(), machine.source()).unwrap();
    put_now(&mut store, 1);
    machine.set("1970-01-01T00:00:00Z");
    assert_eq!(looked_at(&mut store), (1, 0));
    machine.run(WEEK);
    assert_eq!(looked_at(&mut store), (1, 0));
    machine.run(HOUR);
    assert_eq!(looked_at(&mut store), (0, 1));
}

/// The same where it was set while nobody had the file open: from when it was never set it is known to have been.
#[test]
fn what_was_stamped_by_a_clock_that_was_never_set_is_not_too_old() {
    let (place, machine) = (Place::new(), Machine::at("1970-01-01T00:00:10Z"));
    let mut store = place.store_by(OutboxOptions::new(), machine.source()).unwrap();
    put_now(&mut store, 1);
    drop(store);
    machine.set("2026-11-28T10:00:00Z");
    let mut store = place.store_by(OutboxOptions::new(), machine.source()).unwrap();
    for time in [Duration::ZERO, HOUR, WEEK - HOUR] {
        machine.run(time);
        assert_eq!(looked_at(&mut store), (1, 0), "{time:?}");
    }
    machine.run(HOUR);
    assert_eq!(looked_at(&mut store), (0, 1));
}

/// A device whose clock stands at its image's date where there is no network, and one that starts at 1970 each time.
#[test]
fn nothing_expires_at_once_because_the_clock_was_set_while_the_file_was_closed() {
    let (place, machine) = (Place::new(), Machine::at("2026-03-01T00:00:10Z"));
    let mut store = place.store_by(OutboxOptions::new(), machine.source()).unwrap();
    put_now(&mut store, 1);
    drop(store);
    machine.set("2026-11-28T10:00:00Z");
    let mut store = place.store_by(OutboxOptions::new(), machine.source()).unwrap();
    put_now(&mut store, 2);
    assert_eq!(looked_at(&mut store), (2, 0));
    machine.run(HOUR);
    assert_eq!(looked_at(&mut store), (1, 1), "the clock is believed now");
    drop(store);
    machine.set("1970-01-01T00:00:10Z");
    let mut store = place.store_by(OutboxOptions::new(), machine.source()).unwrap();
    machine.run(WEEK - 2 * HOUR);
    assert_eq!(looked_at(&mut store), (1, 0));
    machine.run(2 * HOUR);
    assert_eq!(looked_at(&mut store), (0, 1));
}

#[test]
fn which_app_it_is_for_is_known_to_the_next_process() {
    let place = Place::new();
    let mut store = place.store(OutboxOptions::new()).unwrap();
    assert_eq!(store.now().app, None);
    for n in [1, 255] {
        let app = AppId::from_bytes(std::array::from_fn(|at| n - u8::try_from(at).unwrap().min(n)));
        store.take_out(|batch| batch.note_app(app)).unwrap();
        assert_eq!(store.now().app, Some(app));
        drop(store);
        store = place.store(OutboxOptions::new()).unwrap();
        assert_eq!(store.now().app, Some(app));
    }
}
