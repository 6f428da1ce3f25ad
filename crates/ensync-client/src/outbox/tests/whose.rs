//! Whose key sealed an event, and whether that is the app's now.

use super::super::thread::Request;
use super::drain::{Far, drained_by, next};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What was sealed with a key that the app does not have yet is refused by its readers: it waits for the rotation.
#[tokio::test(start_paused = true)]
async fn what_names_the_next_key_waits_for_the_rotation() {
    let key = |n| ensync_core::SecretKey::from_seed([n; 32]);
    let (next_key, present) = (key(1).app_id().unwrap(), key(2).app_id().unwrap());
    for (app, own, named, goes) in [
        (present, next_key, true, false),
        (present, next_key, false, true),
        (next_key, next_key, true, true),
        (next_key, present, true, true),
        (present, present, true, true),
    ] {
        let far = Arc::new(Far::of(app));
        let ring = ensync_core::Keyring::new(key(1)).with_previous(key(2));
        let (_client, mut asked) = drained_by(&far, Some(ring)).await;
        let kept = Entry { own: Some(own), named, ..entry(1) };
        let begun = tokio::time::Instant::now();
        let sent = loop {
            match next(&mut asked).await {
                Request::Take(_, not, answer) => {
                    let turn = vec![(kept.lane(), vec![(QueuedId(1), kept.clone())])];
                    assert!(answer.send(Ok(if not.contains(&kept.lane()) { Vec::new() } else { turn })).is_ok());
                }
                Request::Write(Write::Done(_), _) => break true,
                _ => panic!("neither read nor let go"),
            }
            if begun.elapsed() > 600 * SECOND {
                break false;
            }
        };
        assert_eq!((sent, far.tried.load(Ordering::Relaxed)), (goes, goes.into()), "{named}");
    }
}
