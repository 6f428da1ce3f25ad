use tokio::sync::watch;

/// Something that is wrong until this is dropped. Of several of a kind, the last that is dropped ends it.
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct Fault(watch::Sender<u32>);

impl Fault {
    pub(super) fn begin(count: &watch::Sender<u32>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
