//! Dead letters, as far as somebody wants them.

use std::ops::Bound::{Excluded, Unbounded};

use ensync_core::{AppId, EventId, EventName, Timestamp};

use super::dispatch::key_of;
use super::inspect::DeadLetter;
use super::queue::{Dead, Queue};
use super::{EventKey, Partition};
use crate::model::EventRef;

/// How many bytes may be compared for what one look costs.
const COMPARED: usize = 1_024;

/// Which dead letters are meant: those of which everything holds that is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Of this recipient.
    pub recipient: Option<AppId>,
    /// Of this event name.
    pub event: Option<EventName>,
    /// With a reason that holds this, in either case of ASCII letters.
    pub reason: Option<String>,
    /// That became dead letters at this time or later.
    pub since: Option<Timestamp>,
    /// That became dead letters before this time.
    pub before: Option<Timestamp>,
}

impl LetterFilter {
    fn takes_queue(&self, queue: &Queue) -> bool {
        self.recipient.is_none_or(|id| queue.recipient == id)
            && self.event.as_ref().is_none_or(|name| queue.event == *name)
    }

    fn takes(&self, dead: &Dead) -> bool {
        self.since.is_none_or(|since| dead.at >= since)
            && self.before.is_none_or(|before| dead.at < before)
            && self.reason.as_ref().is_none_or(|part| holds(&dead.reason, part))
    }

    /// What a look at a letter costs: a text is looked for at each place of another.
    fn cost(&self, dead: &Dead) -> usize {
        1 + self.reason.as_ref().map_or(0, |part| dead.reason.len() * part.len() / COMPARED)
    }
}

/// Whether a text holds a part, in either case of ASCII letters.
pub(crate) fn holds(text: &str, part: &str) -> bool {
    part.is_empty() || text.as_bytes().windows(part.len()).any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

impl Partition {
    /// At most `limit` dead letters that are meant, oldest event first per queue, from the one after `after` on, which need not be one
    /// (any more). Looks at about `budget` queues and letters at most, long reasons counting for several; the second value is where to go
    /// on, if that is not the end.
    pub(crate) fn letters(
        &self,
        filter: &LetterFilter,
        after: Option<&EventId>,
        (limit, budget): (usize, usize),
    ) -> (Vec<DeadLetter>, Option<EventId>) {
        let after = after.and_then(EventKey::of).map(|key| key.event);
        let (mut found, mut looked) = (Vec::new(), 0_usize);
        for (&number, queue) in self.queues.range(after.map_or(0, |after| after.queue)..) {
            looked += 1;
            let begin = after.filter(|after| after.queue == number).map_or(Unbounded, |after| Excluded(after.seq));
            let letters = filter.takes_queue(queue).then(|| queue.dead.range((begin, Unbounded)));
            for (&seq, dead) in letters.into_iter().flatten() {
                let Some(entry) = queue.entries.get(seq) else { continue };
                let event = EventRef { queue: number, seq };
                if filter.takes(dead) {
                    found.push(DeadLetter {
                        id: key_of(event, entry).to_id(),
                        event: queue.event.clone(),
                        recipient: queue.recipient,
                        reason: dead.reason.clone(),
                        at: dead.at,
                        accepted_at: entry.accepted_at,
                        deliveries: entry.deliveries,
                    });
                }
                looked += filter.cost(dead);
                if found.len() >= limit || looked >= budget {
                    return (found, Some(key_of(event, entry).to_id()));
                }
            }
            if looked >= budget {
                // Behind all of this queue.
                return (found, Some(EventKey::end_of_queue(number).to_id()));
            }
        }
        (found, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_search_costs_what_it_takes() {
        let dead = |reason: String| Dead { reason, at: Timestamp::default() };
        let filter = |part: String| LetterFilter { reason: Some(part), ..LetterFilter::default() };
        assert_eq!(filter("timed".into()).cost(&dead("timed out".into())), 1);
        assert_eq!(LetterFilter::default().cost(&dead("a".repeat(1_024))), 1);
        assert_eq!(filter("a".repeat(256)).cost(&dead("a".repeat(1_024))), 257);
    }

    #[test]
    fn a_part_is_found_in_either_case_and_between_characters_of_any_language() {
        for (text, part, found) in [
            ("Timed out", "timed", true),
            ("Timed out", "OUT", true),
            ("Timed out", "", true),
            ("out", "outer", false),
            ("größe", "ö", true),
            ("größe", "Ö", false),
            ("", "x", false),
        ] {
            assert_eq!(holds(text, part), found, "{text} {part}");
        }
    }
}
