//! What is remembered, as it was at some moment.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use ensync_core::{AppId, Timestamp};

use super::super::event_id::EventKey;
use super::super::publishes::Shards;
use super::{Fingerprint, Remembered};

/// What was held at some moment, as far as it has not been told.
#[derive(Debug)]
pub(super) struct Image {
    /// Which of each app's publishes, by their numbers.
    pub(super) left: BTreeMap<AppId, (u64, u64)>,
    pub(super) latest: Timestamp,
    pub(super) told: Timestamp,
    /// What publishes were of which the key was used again since.
    pub(super) replaced: HashMap<(Fingerprint, Timestamp), EventKey>,
    /// What was taken out before it was told.
    pub(super) gone: Vec<(AppId, Vec<Remembered>)>,
}

impl Image {
    /// A publish, if it was held.
    pub(super) fn remembered(
        &self,
        (publish, at): (Fingerprint, Timestamp),
        events: &Shards,
        window: Duration,
    ) -> Option<Remembered> {
        if self.latest.since(at) >= window || self.told.since(at) >= window.saturating_mul(2) {
            return None;
        }
        let now = || events.get(&publish).filter(|(_, current)| *current == at).map(|(event, _)| *event);
        let event = self.replaced.get(&(publish, at)).copied().or_else(now)?;
        Some(Remembered { publish, event, at })
    }

    /// Notes the first publish of an app, which is about to be forgotten.
    pub(super) fn goes(
        &mut self,
        app: AppId,
        number: u64,
        publish: (Fingerprint, Timestamp),
        events: &Shards,
        window: Duration,
    ) {
        let Some((from, to)) = self.left.get_mut(&app) else { return };
        if !(*from..*to).contains(&number) {
            return;
        }
        *from = number + 1;
        if from == to {
            self.left.remove(&app);
        }
        let Some(remembered) = self.remembered(publish, events, window) else { return };
        match self.gone.last_mut() {
            Some((last, gone)) if *last == app => gone.push(remembered),
            _ => self.gone.push((app, vec![remembered])),
        }
    }
}
