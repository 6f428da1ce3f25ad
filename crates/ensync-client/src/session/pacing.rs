//! How an engine without flow control is kept from sending more: what it should do, and what it was told.

/// Whether an engine should pause, and what it knows of that. One command at a time tells it, so that its words keep their order.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Whether the engine should pause.
    want: bool,
    /// What it was told last.
    told: bool,
    /// It refused a word and may have done what that said all the same, so whatever it should do has to be told again.
    unsure: bool,
    /// Somebody is telling it.
    telling: bool,
}

impl Pacing {
    /// The engine should pause, or go on.
    pub(super) fn wish(&mut self, pause: bool) {
        self.want = pause;
    }

    /// Whether somebody has to begin to tell the engine; who asks is the one.
    pub(super) fn begin_telling(&mut self) -> bool {
        let begin = (self.want != self.told || self.unsure) && !self.telling;
        self.telling |= begin;
        begin
    }

    /// What to tell the engine next: pause, or go on. `None` if there is nothing more to tell, and whoever tells may stop.
    pub(super) fn next_word(&mut self) -> Option<bool> {
        let unsure = std::mem::take(&mut self.unsure);
        self.telling = self.want != self.told || unsure;
        self.told = self.want;
        self.telling.then_some(self.want)
    }

    /// The engine did not take that word: it is as it was before, or, with `perhaps`, nobody knows.
    pub(super) fn was_not_told(&mut self, pause: bool, perhaps: bool) {
        self.told = !pause;
        self.unsure |= perhaps;
    }

    /// Whether the engine was told to pause, or may believe so.
    pub(super) fn pauses(&self) -> bool {
        self.told || self.unsure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands before an engine may refuse what the engine has done. Somebody has to take that back.
    #[test]
    fn a_refused_pause_that_may_hold_is_taken_back() {
        for perhaps in [false, true] {
            let mut pacing = Pacing::default();
            pacing.wish(true);
            assert!(pacing.begin_telling());
            assert_eq!(pacing.next_word(), Some(true));
            pacing.was_not_told(true, perhaps);
            // There is room again before it is told once more.
            pacing.wish(false);
            assert_eq!(pacing.pauses(), perhaps);
            assert_eq!(pacing.next_word(), perhaps.then_some(false));
            assert_eq!(pacing.next_word(), None);
            assert!(!pacing.pauses() && !pacing.begin_telling());
        }
        let mut pacing = Pacing::default();
        pacing.wish(true);
        assert!(pacing.begin_telling());
        assert_eq!(pacing.next_word(), Some(true));
        assert_eq!(pacing.next_word(), None);
        pacing.wish(false);
        assert!(pacing.begin_telling());
        assert_eq!(pacing.next_word(), Some(false));
        // It may go on, or not: with the next wish it is told.
        pacing.was_not_told(false, true);
        pacing.wish(true);
        assert_eq!(pacing.next_word(), Some(true));
        assert_eq!(pacing.next_word(), None);
    }
}
