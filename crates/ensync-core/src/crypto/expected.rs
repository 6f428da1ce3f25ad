use super::Senders;
use super::sealed::Header;
use crate::{AppId, Error, ErrorKind, EventName, Result};

/// What a reader expects of a payload before it opens it.
///
/// ```
/// use ensync_core::EventName;
/// use ensync_core::crypto::{Expected, Senders};
///
/// let (event, senders) = (EventName::parse("orders/created")?, Senders::Verified);
/// let expected = Expected::event(&event).engine_sender(None).senders(&senders);
/// # let _ = expected;
/// # Ok::<(), ensync_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    event: Option<&'a EventName>,
    engine_sender: Option<AppId>,
    pub(super) senders: &'a Senders,
}

impl<'a> Expected<'a> {
    /// A payload under this event name: the one that was subscribed to, or that a replay asked for. Never the one that came with the
    /// delivery, which is the engine's word.
    pub const fn event(event: &'a EventName) -> Self {
        Self { event: Some(event), engine_sender: None, senders: &Senders::Any }
    }

    /// A payload under whatever name. For tools that look at an envelope by itself; a subscriber that accepted any would let the
    /// engine pass one event off as another.
    pub const fn any_event() -> Self {
        Self { event: None, engine_sender: None, senders: &Senders::Any }
    }

    /// Who the engine says sent it, if it gave a key: an envelope that names another sender is refused.
    #[must_use]
    pub const fn engine_sender(mut self, sender: Option<AppId>) -> Self {
        self.engine_sender = sender;
        self
    }

    /// Whose payloads are taken.
    #[must_use]
    pub const fn senders(mut self, senders: &'a Senders) -> Self {
        self.senders = senders;
        self
    }

    /// Step 3 of reading a sealed envelope.
    pub(super) fn check_place(&self, header: &Header) -> Result<()> {
        let misdirected = |why| Err(Error::new(ErrorKind::Misdirected, why));
        if let Some(event) = self.event
            && *event != header.event
        {
            return misdirected(format!("the envelope was sealed for event {}, not for {event}", header.event));
        }
        if let Some((engine, from)) = self.engine_sender.zip(header.from)
            && engine != from
        {
            return misdirected(format!(
                "the envelope says app {from} sealed it, the engine says app {engine} sent it"
            ));
        }
        Ok(())
    }
}
