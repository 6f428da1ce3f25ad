//! Checkpoints of a partition, made in slices while commands go on.

use bytes::Bytes;

use super::Partition;
use super::image::Slice;
use crate::model::RegistrySnapshot;
use crate::model::codec::snapshot;

impl Partition {
    /// Begins a checkpoint of what is durable now. This is the beginning of its bytes, which [`restore`](Partition::restore) goes on from
    /// once they are decoded. One that is being made is given up.
    pub(crate) fn begin_checkpoint(&mut self) -> Bytes {
        self.begin_image();
        let (logged_at, next_queue) = self.image_head();
        // Who may do what is in a log of its own.
        snapshot::begin(&RegistrySnapshot::default(), logged_at, next_queue).into()
    }

    /// The next bytes, whatever has happened since it was begun: what about `most` events, moves and keys are. `None` if there are no more.
    pub(crate) fn go_on_with_checkpoint(&mut self, most: usize) -> Option<Bytes> {
        let mut bytes = Vec::new();
        match self.image(most)? {
            Slice::Parts(parts) => parts.iter().for_each(|part| snapshot::part(&mut bytes, part)),
            Slice::End => snapshot::end(&mut bytes),
        }
        Some(bytes.into())
    }

    /// Gives up a checkpoint that is being made.
    pub(crate) fn drop_checkpoint(&mut self) {
        self.drop_image();
    }
}
