//! Removing what was left of things that were deleted.

use super::App;
use crate::{
    domain::{Error, Moment, event::Gone},
    queue::Sweep,
};

impl App {
    /// Removes some of what is left of something deleted. Harmless at any time: of what is there nothing is removed. Whether
    /// there may be more.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] and the like: it is to be done again.
    pub async fn sweep_up(&self, job: &Sweep, moment: &Moment) -> Result<bool, Error> {
        match job.gone {
            Gone::Chat(chat) => self.sweep_log(job.tenant, chat, moment).await,
            Gone::Agent(agent) => self.sweep_versions(job.tenant, agent, moment).await,
        }
    }
}
