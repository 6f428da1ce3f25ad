#[cfg(feature = "outbox")]
pub(crate) fn outbox_outcome(_: &crate::Outcome) {}
