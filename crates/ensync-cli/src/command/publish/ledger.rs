//! What is known of each line of a file: that it is published, that it is not, or that nobody can be sure. Nothing here reads or writes.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::lines::{Line, Own};

/// How many lines may be published, or on their way, while one before them is not answered.
pub(super) const MAX_AHEAD: usize = 10_000;
/// How many lines may be left behind without being published.
pub(super) const MAX_BEHIND: usize = 10_000;

/// A hash over lines that are done, in their order.
pub(super) type Chain = [u8; 32];

/// How a line stands that has a place of its own in the notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is published, or empty.
    Done,
    /// It is not published: it was refused, or never went out.
    Not,
    /// It may be published: no answer came, or only some of its recipients were served.
    Unsure,
}

/// What is known, as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// All lines up to this one are done, but for those that are apart.
    pub(super) line: u64,
    /// The hash of those that are done.
    pub(super) chain: Chain,
    /// Lines after `line` and up to this one may be published, but for those that are apart.
    pub(super) begun: u64,
    /// When the first line went out that may be published: milliseconds since the Unix epoch.
    pub(super) since: Option<u64>,
    /// How many were published, over all runs.
    pub(super) published: u64,
    /// Lines with a place of their own.
    pub(super) apart: BTreeMap<u64, (Own, Standing)>,
}

/// Lines that may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    /// At most so many.
    pub(super) count: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Noted {
    /// The lines of which nobody can be sure.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        let mut unsure =
            self.apart.iter().filter(|(_, (_, standing))| *standing == Standing::Unsure).map(|(at, _)| *at);
        let (first, last) = match (unsure.next(), unsure.next_back()) {
            (Some(first), last) => (Some(first), last.or(Some(first))),
            (None, _) => (None, None),
        };
        let apart = self.apart.values().filter(|(_, standing)| *standing == Standing::Unsure).count() as u64;
        let open = match self.begun.checked_sub(self.line) {
            Some(span @ 1..) => {
                let known = self.apart.keys().filter(|at| **at > self.line && **at <= self.begun).count() as u64;
                span.saturating_sub(known)
            }
            _ => 0,
        };
        let (mut from, mut to) = (first, last);
        if open > 0 {
            from = Some(from.map_or(self.line + 1, |from| from.min(self.line + 1)));
            to = Some(to.map_or(self.begun, |to| to.max(self.begun)));
        }
        (apart + open > 0).then(|| Doubt {
            count: apart + open,
            first: from.unwrap_or_default(),
            last: to.unwrap_or_default(),
        })
    }

    /// Whether a line is left that was passed by.
    pub(super) fn has_gaps(&self) -> bool {
        self.apart.range(..=self.line).any(|(_, (_, standing))| *standing != Standing::Done)
    }
}

/// What is to be done with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Nothing.
    Pass,
    Publish,
    /// It was published, at least to some, and is another one now.
    Changed,
}

/// What is known, while it changes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    line: u64,
    chain: Chain,
    apart: BTreeMap<u64, (Own, Standing)>,
    /// How many of those are not after `line`.
    behind: usize,
    /// Lines on their way: when each went out, and how it stood before.
    flight: BTreeMap<u64, (u64, Standing)>,
    /// The last line that was looked at: what comes after it may be another one now.
    read: u64,
    /// The last line that went out.
    begun: u64,
    /// The last line that the notes say may have gone out.
    written: u64,
    /// Up to this line an earlier run may have published, and since when.
    earlier: (u64, Option<u64>),
    /// When the first of those went out that stand apart and are unsure.
    unsure_since: Option<u64>,
    /// Whether what an earlier run may have published counts as published.
    trust: bool,
    total: u64,
    pub(super) published: u64,
    pub(super) skipped: u64,
}

/// The hash with one more line.
pub(super) fn chained(chain: &Chain, number: u64, own: &Own) -> Chain {
    Sha256::new().chain_update(chain).chain_update(number.to_be_bytes()).chain_update(own).finalize().into()
}

impl Ledger {
    /// From what was noted. `trust`: what may be published counts as published.
    pub(super) fn new(noted: Noted, trust: bool) -> Self {
        let behind = noted.apart.range(..=noted.line).count();
        let left = noted.apart.range(..=noted.line).filter(|(_, (_, standing))| *standing != Standing::Done).count();
        let unsure = noted.apart.values().any(|(_, standing)| *standing == Standing::Unsure);
        Self {
            line: noted.line,
            chain: noted.chain,
            behind,
            read: noted.line,
            begun: noted.line,
            earlier: (noted.begun, noted.since),
            unsure_since: if unsure { noted.since } else { None },
            trust,
            total: noted.published,
            skipped: noted.line.saturating_sub(left as u64),
            apart: noted.apart,
            ..Self::default()
        }
    }

    /// What is to be done with a line.
    pub(super) fn what(&mut self, line: &Line) -> What {
        let (number, empty) = (line.number, line.text.trim().is_empty());
        self.read = self.read.max(number);
        match self.apart.get(&number).copied() {
            Some((own, Standing::Done)) if own != line.own => What::Changed,
            Some((_, Standing::Done)) => {
                self.skipped += u64::from(number > self.line);
                self.fold();
                What::Pass
            }
            Some((own, Standing::Unsure)) if own != line.own => What::Changed,
            Some((_, Standing::Unsure)) if self.trust => self.pass(line),
            Some(_) if empty => self.pass(line),
            Some(_) => What::Publish,
            None if number <= self.line => What::Pass,
            None if empty || (self.trust && number <= self.earlier.0) => self.pass(line),
            None => What::Publish,
        }
    }

    fn pass(&mut self, line: &Line) -> What {
        self.skipped += u64::from(!line.text.trim().is_empty());
        self.stands(line, Standing::Done);
        What::Pass
    }

    /// Whether the notes have to be written before a line goes out: they must say that it may be published.
    pub(super) fn is_news(&self, line: &Line) -> bool {
        line.number > self.written || self.apart.contains_key(&line.number)
    }

    /// A line is about to go out, at this time. After this the notes say so.
    pub(super) fn begin(&mut self, line: &Line, now: u64) {
        let was = match self.apart.get(&line.number) {
            Some((_, standing)) => *standing,
            None if line.number <= self.earlier.0 => Standing::Unsure,
            None => Standing::Not,
        };
        self.flight.insert(line.number, (now, was));
        (self.read, self.begun) = (self.read.max(line.number), self.begun.max(line.number));
        if let Some(known) = self.apart.get_mut(&line.number) {
            *known = (line.own, Standing::Unsure);
            self.unsure_since = Some(self.unsure_since.map_or(now, |since| since.min(now)));
        }
    }

    /// A line did not go out after all: it stands as before.
    pub(super) fn back(&mut self, line: &Line) {
        let was = self.flight.get(&line.number).map_or(Standing::Not, |(_, was)| *was);
        self.stands(line, was);
    }

    /// It is known what became of a line.
    pub(super) fn stands(&mut self, line: &Line, standing: Standing) {
        self.read = self.read.max(line.number);
        let went = self.flight.remove(&line.number).map(|(at, _)| at);
        if self.apart.insert(line.number, (line.own, standing)).is_none() {
            self.behind += usize::from(line.number <= self.line);
        }
        match standing {
            Standing::Done => {
                self.published += u64::from(went.is_some());
                self.total += u64::from(went.is_some());
            }
            Standing::Unsure => {
                let earlier = self.earlier.1.filter(|_| line.number <= self.earlier.0);
                self.unsure_since = [self.unsure_since, went, earlier].into_iter().flatten().min();
            }
            Standing::Not => {}
        }
        self.fold();
    }

    /// Goes on to the last line up to which everything is known.
    fn fold(&mut self) {
        let next = |line: u64| line.saturating_add(1);
        while let Some((own, standing)) = self.apart.get(&next(self.line)).copied()
            && !self.flight.contains_key(&next(self.line))
            && next(self.line) <= self.read
        {
            self.line = next(self.line);
            if standing == Standing::Done {
                self.chain = chained(&self.chain, self.line, &own);
                self.apart.remove(&self.line);
            } else {
                self.behind += 1;
            }
        }
    }

    /// Whether there is room to begin one more.
    pub(super) fn has_room(&self) -> bool {
        self.apart.len().saturating_sub(self.behind) + self.flight.len() < MAX_AHEAD
    }

    /// Whether so many lines are not published that something else must be wrong.
    pub(super) fn is_hopeless(&self) -> bool {
        self.behind >= MAX_BEHIND
    }

    /// What is to be written down. `more`: so many lines may go out before this is written again.
    pub(super) fn noted(&mut self, more: u64, now: u64) -> Noted {
        self.written = self.begun.saturating_add(more);
        // Of what an earlier run may have published, some is not looked at yet.
        let earlier = if self.line < self.earlier.0 { self.earlier.1.or(Some(now)) } else { None };
        let unsure = self.apart.values().any(|(_, standing)| *standing == Standing::Unsure);
        if !unsure {
            self.unsure_since = None;
        }
        let reserved = (more > 0).then_some(now);
        let since = [earlier, self.unsure_since, reserved].into_iter().flatten();
        Noted {
            line: self.line,
            chain: self.chain,
            begun: if self.line < self.earlier.0 { self.written.max(self.earlier.0) } else { self.written },
            since: since.chain(self.flight.values().map(|(at, _)| *at)).min(),
            published: self.total,
            apart: self.apart.clone(),
        }
    }

    /// The last line up to which everything is known.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// How many lines are not published, or only perhaps.
    pub(super) fn failed(&self) -> u64 {
        self.apart.values().filter(|(_, standing)| *standing != Standing::Done).count() as u64
    }

    /// Whether nothing was published, not even perhaps, in this run or an earlier one.
    pub(super) fn is_nothing(&self) -> bool {
        let unsure = self.apart.values().any(|(_, standing)| *standing == Standing::Unsure);
        self.total == 0 && !unsure && self.flight.is_empty() && self.line >= self.earlier.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::own;
    use super::*;

    fn line(number: u64, text: &str) -> Line {
        Line { number, text: text.to_owned(), bytes: number, own: own(text) }
    }

    #[test]
    fn what_is_refused_is_tried_again_and_the_rest_is_not() {
        let mut ledger = Ledger::default();
        for number in 1..=4 {
            let line = line(number, &number.to_string());
            assert_eq!((ledger.what(&line), ledger.is_news(&line)), (What::Publish, true));
            ledger.begin(&line, 10 + number);
        }
        // Nothing is answered: all four may be published, and those that may go out before the next note.
        let noted = ledger.noted(2, 100);
        assert_eq!((noted.since, noted.doubt()), (Some(11), Some(Doubt { count: 6, first: 1, last: 6 })));
        assert!(!ledger.is_news(&line(6, "6")) && ledger.is_news(&line(7, "7")));
        ledger.stands(&line(4, "4"), Standing::Done);
        ledger.stands(&line(2, "2"), Standing::Not);
        ledger.stands(&line(1, "1"), Standing::Done);
        assert_eq!((ledger.line(), ledger.is_nothing()), (2, false));
        let noted = ledger.noted(0, 100);
        assert_eq!(noted.doubt(), Some(Doubt { count: 1, first: 3, last: 4 }));
        ledger.stands(&line(3, "3"), Standing::Unsure);
        let noted = ledger.noted(0, 100);
        assert_eq!((noted.line, noted.since, noted.published), (4, Some(13), 2));
        assert_eq!(noted.doubt(), Some(Doubt { count: 1, first: 3, last: 3 }));

        // Gone on with: the second may be another one, the third may not.
        let mut again = Ledger::new(noted.clone(), false);
        assert_eq!(again.skipped, 2);
        assert_eq!(again.what(&line(1, "1")), What::Pass);
        assert_eq!(again.what(&line(2, "mended")), What::Publish);
        assert_eq!(again.what(&line(3, "other")), What::Changed);
        assert_eq!(again.what(&line(3, "3")), What::Publish);
        // The notes say that the second may be published, before it goes out.
        assert!(again.is_news(&line(2, "mended")));
        again.begin(&line(2, "mended"), 50);
        let meanwhile = again.noted(0, 100);
        assert_eq!(meanwhile.doubt(), Some(Doubt { count: 2, first: 2, last: 3 }));
        again.stands(&line(2, "mended"), Standing::Done);
        let mut trusting = Ledger::new(again.noted(0, 100), true);
        assert_eq!(trusting.what(&line(2, "2")), What::Changed, "what was mended is published");
        assert_eq!(trusting.what(&line(3, "3")), What::Pass);
        assert_eq!((trusting.failed(), trusting.noted(0, 9).doubt()), (0, None));
    }

    #[test]
    fn what_an_earlier_run_may_have_published_stays_in_doubt_until_it_is_looked_at() {
        let noted = Noted { begun: 3, since: Some(5), ..Noted::default() };
        let mut ledger = Ledger::new(noted, false);
        ledger.begin(&line(1, "1"), 60);
        ledger.stands(&line(1, "1"), Standing::Done);
        let noted = ledger.noted(0, 70);
        assert_eq!((noted.since, noted.doubt()), (Some(5), Some(Doubt { count: 2, first: 2, last: 3 })));
        assert!(!ledger.is_nothing());
        ledger.begin(&line(2, "x"), 61);
        ledger.stands(&line(2, "x"), Standing::Not);
        // The third was not reached: what was known of it before holds.
        ledger.begin(&line(3, "x"), 61);
        ledger.back(&line(3, "x"));
        let noted = ledger.noted(0, 70);
        assert_eq!((noted.since, noted.doubt()), (Some(5), Some(Doubt { count: 1, first: 3, last: 3 })));
        ledger.begin(&line(3, "x"), 80);
        ledger.stands(&line(3, "x"), Standing::Done);
        assert_eq!(ledger.noted(0, 90).since, None);
    }

    #[test]
    fn how_much_is_kept_is_bounded() {
        let mut ledger = Ledger::default();
        ledger.begin(&line(1, "1"), 1);
        let mut number = 1;
        while ledger.has_room() {
            number += 1;
            ledger.begin(&line(number, "x"), 1);
            ledger.stands(&line(number, "x"), Standing::Done);
        }
        assert_eq!(number as usize, MAX_AHEAD);
        ledger.stands(&line(1, "1"), Standing::Done);
        assert!(ledger.has_room() && ledger.apart.is_empty() && ledger.line() == number);
        for more in 1..=MAX_BEHIND as u64 {
            assert!(!ledger.is_hopeless());
            ledger.stands(&line(number + more, "x"), Standing::Not);
        }
        assert!(ledger.is_hopeless() && ledger.has_room());
    }
}
