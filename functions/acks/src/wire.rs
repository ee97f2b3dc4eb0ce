//! What goes over the wire.

use parlance::domain::{Error, RoomId, message::Seq};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far the caller has received a room.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct AckIn {
    #[schema(example = "room_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    room_id: String,
    /// A seq of that room.
    #[schema(example = 43, minimum = 0)]
    seq: i64,
}

impl AckIn {
    /// The same in domain words.
    pub(crate) fn parse(self) -> Result<(RoomId, Seq), Error> {
        let room = self.room_id.parse().map_err(|_| Error::NotFound("Room"))?;
        let seq = u64::try_from(self.seq)
            .ok()
            .filter(|seq| *seq <= Seq::MAX.get());
        let seq = seq.ok_or_else(|| {
            let rule = format!(
                "Invalid seq. It is a whole number from 0 to {}",
                Seq::MAX.get()
            );
            Error::invalid("seq", rule)
        })?;
        Ok((room, Seq::new(seq)))
    }
}

/// The seed's answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Acked {
    #[schema(example = true)]
    pub(crate) success: bool,
}
