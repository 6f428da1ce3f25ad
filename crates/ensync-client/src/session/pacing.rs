//! How an engine without flow control is kept from sending more: what it should do, and what it was told.

/// Whether an engine should pause, and what it knows of that. One command at a time tells it, so that its words keep their order.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// Whether the engine should pause.
    want: bool,
    /// What it was told last.
    told: bool,
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
        let begin = self.want != self.told && !self.telling;
        self.telling |= begin;
        begin
    }

    /// What to tell the engine next: pause, or go on. `None` if there is nothing more to tell, and whoever tells may stop.
    pub(super) fn next_word(&mut self) -> Option<bool> {
        self.telling = self.want != self.told;
        self.told = self.want;
        self.telling.then_some(self.want)
    }

    /// The engine did not take that word: it is as it was before.
    pub(super) fn was_not_told(&mut self, pause: bool) {
        self.told = !pause;
    }

    /// Whether the engine was told to pause.
    pub(super) fn pauses(&self) -> bool {
        self.told
    }
}
