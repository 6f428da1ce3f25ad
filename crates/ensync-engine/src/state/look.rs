//! What administrators look at more closely: who is connected, which apps there are. Each look is bounded.

use ensync_core::AppId;

use super::{Access, AppInfo, Partition, SessionNumber, Subscribed};
use crate::partition::holds;

/// A session, as administrators see it.
#[derive(Clone, Debug)]
pub(crate) struct SessionSeen {
    pub(crate) number: SessionNumber,
    /// Its app, by its id.
    pub(crate) app: AppId,
    pub(crate) app_name: String,
    /// What it takes; its app's partition says that.
    pub(crate) subscribed: Vec<Subscribed>,
}

impl SessionSeen {
    /// Asks its app's partition what it takes.
    pub(crate) fn look(&mut self, partition: &Partition) {
        self.subscribed = partition.subscribed(self.number).collect();
    }
}

impl Access {
    /// At most `limit` sessions, of one app or of all, in the order in which they were opened, from the one after `after` on.
    pub(crate) fn sessions_after(
        &self,
        app: Option<&AppId>,
        after: Option<SessionNumber>,
        limit: usize,
    ) -> Vec<SessionSeen> {
        let app = app.map(|key| self.registry.find(key).unwrap_or(*key));
        let sessions = self.sessions.after(app.as_ref(), after).take(limit);
        sessions.filter_map(|(number, _)| self.session_of(number)).collect()
    }

    /// One session.
    pub(crate) fn session_of(&self, number: SessionNumber) -> Option<SessionSeen> {
        let app = self.sessions.of_number(number)?.app;
        let app_name = self.app_name(&app).unwrap_or_default().to_owned();
        Some(SessionSeen { number, app, app_name, subscribed: Vec::new() })
    }

    /// At most `limit` apps, by id, from the one after `after` on, whose name or id holds a text, and that may log in or not, if that is
    /// said. Looks at `budget` of them at most; the second value is where to go on, if that is not the end.
    pub(crate) fn find_apps(
        &self,
        (text, enabled): (Option<&str>, Option<bool>),
        after: Option<&AppId>,
        (limit, budget): (usize, usize),
    ) -> (Vec<AppInfo>, Option<AppId>) {
        let mut found = Vec::new();
        for (looked, (id, app)) in self.registry.apps_after(after).enumerate() {
            let wanted = enabled.is_none_or(|enabled| app.enabled == enabled)
                && text.is_none_or(|text| holds(&app.name, text) || holds(&id.to_string(), text));
            if wanted {
                found.extend(self.app(id));
            }
            if found.len() >= limit || looked + 1 >= budget {
                return (found, Some(*id));
            }
        }
        (found, None)
    }
}
