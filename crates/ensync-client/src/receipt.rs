use std::fmt;

use ensync_core::{AppId, Error, ErrorKind, EventId, Result};

/// The engine's word that it accepted a publish: an event id for each recipient, in the order they were named.
///
/// `Display` writes the ids joined by commas, as the Python and Node clients return them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    first: (AppId, EventId),
    others: Vec<(AppId, EventId)>,
}

impl Receipt {
    /// The event's id at the first recipient; with one recipient, the event's id.
    pub fn id(&self) -> &EventId {
        &self.first.1
    }

    /// Each recipient and the event's id there.
    pub fn iter(&self) -> impl Iterator<Item = (&AppId, &EventId)> {
        std::iter::once(&self.first).chain(&self.others).map(|(recipient, id)| (recipient, id))
    }

    /// The event's id at one recipient.
    pub fn id_for(&self, recipient: &AppId) -> Option<&EventId> {
        self.iter().find(|(known, _)| *known == recipient).map(|(_, id)| id)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().enumerate().try_for_each(|(i, (_, id))| write!(f, "{}{id}", if i > 0 { "," } else { "" }))
    }
}

/// The source of a [`PartiallyPublished`](ErrorKind::PartiallyPublished) error, and of one that says that none of several recipients
/// was served: who was served and who was not.
///
/// ```no_run
/// # async fn example(publish: ensync_client::Publish) {
/// if let Err(error) = publish.await
///     && let Some(partial) = ensync_client::PartialPublish::of(&error)
/// {
///     for (recipient, error) in &partial.failed {
///         eprintln!("{recipient}: {error}");
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error("not served: {}", list(.failed))]
pub struct PartialPublish {
    /// Who was served, and the event's id there.
    pub accepted: Vec<(AppId, EventId)>,
    /// Who was not, and why.
    pub failed: Vec<(AppId, Error)>,
}

impl PartialPublish {
    /// The details of a failure of several recipients; `None` for any other error.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// One result of many answers. If nobody was served, the kind is that of all failures, or of one that may have been served all
    /// the same.
    pub(crate) fn settle(mut accepted: Vec<(AppId, EventId)>, mut failed: Vec<(AppId, Error)>) -> Result<Receipt> {
        if failed.is_empty() && !accepted.is_empty() {
            let first = accepted.remove(0);
            return Ok(Receipt { first, others: accepted });
        }
        let total = accepted.len() + failed.len();
        if accepted.is_empty() {
            if total == 1 {
                return Err(failed.remove(0).1);
            }
            let open = failed.iter().find(|(_, error)| error.may_have_happened()).or(failed.first());
            let Some((recipient, error)) = open else {
                return Err(Error::new(ErrorKind::Internal, "a publish without a recipient was sent"));
            };
            let context = format!("none of {total} recipients is known to be served; {recipient}");
            return Err(error.clone().context(context).with_source(Self { accepted, failed }));
        }
        let served = accepted.len();
        let message = format!("{served} of {total} recipients were served");
        Err(Error::new(ErrorKind::PartiallyPublished, message).with_source(Self { accepted, failed }))
    }
}

/// Of how many failures the text tells: each may have a kilobyte of an engine's words.
const SHOWN: usize = 10;

fn list(failed: &[(AppId, Error)]) -> String {
    let shown = failed.iter().take(SHOWN).map(|(recipient, error)| format!("{recipient}: {error}"));
    let mut all = shown.collect::<Vec<_>>().join("; ");
    if let Some(more) = failed.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        all.push_str(&format!("; and {more} more"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> (AppId, EventId) {
        (AppId::from_bytes([n; 32]), EventId::parse(&format!("e{n}")).unwrap())
    }

    #[test]
    fn the_text_of_many_failures_is_short() {
        let refusal = |n: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_le_bytes());
            (AppId::from_bytes(id), Error::new(ErrorKind::UnknownRecipient, "x".repeat(1_000)))
        };
        let text =
            |failures| PartialPublish { accepted: vec![], failed: (0..failures).map(refusal).collect() }.to_string();
        let (ten, many) = (text(10), text(100_000));
        assert!(!ten.contains("more") && ten.len() > 10_000, "{ten}");
        assert!(many.len() < ten.len() + 100 && many.ends_with("; and 99990 more"), "{}", many.len());
    }

    #[test]
    fn all_some_or_none() {
        let refusal = |n| (AppId::from_bytes([n; 32]), Error::new(ErrorKind::UnknownRecipient, "no such app"));
        let receipt = PartialPublish::settle(vec![id(1), id(2)], vec![]).unwrap();
        assert_eq!(receipt.to_string(), "e1,e2");
        assert_eq!(receipt.id_for(&AppId::from_bytes([2; 32])).unwrap().as_str(), "e2");

        let error = PartialPublish::settle(vec![id(1)], vec![refusal(2)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PartiallyPublished);
        let partial = PartialPublish::of(&error).unwrap();
        assert_eq!(partial.accepted, [id(1)]);
        assert_eq!(partial.failed[0].1.kind(), ErrorKind::UnknownRecipient);

        let error = PartialPublish::settle(vec![], vec![refusal(1), refusal(2)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownRecipient);
        assert_eq!(PartialPublish::of(&error).unwrap().failed.len(), 2);
        assert!(error.to_string().starts_with("none of 2 recipients"), "{error}");

        // One may have been served, so that is what is told.
        let lost = (AppId::from_bytes([2; 32]), Error::new(ErrorKind::Interrupted, "lost"));
        let error = PartialPublish::settle(vec![], vec![refusal(1), lost]).unwrap_err();
        assert!(error.may_have_happened(), "{error}");
        let error = PartialPublish::settle(vec![], vec![refusal(1)]).unwrap_err();
        assert!(PartialPublish::of(&error).is_none());
    }
}
