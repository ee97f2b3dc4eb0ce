//! The payloads of the sweep queue: a chat was deleted, and its log is to go.

use serde::{Deserialize, Serialize};

use super::{VERSION, fanout::read};
use crate::domain::{ChatId, Error, TenantId};

/// The log of a deleted chat is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// Whose.
    pub tenant: TenantId,
    /// Of which chat.
    pub chat: ChatId,
}

#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    v: u32,
    tenant: String,
    chat: String,
}

impl Sweep {
    /// The job as it is sent.
    pub fn to_text(&self) -> Result<String, Error> {
        let wire = Wire {
            v: VERSION,
            tenant: self.tenant.to_string(),
            chat: self.chat.to_string(),
        };
        serde_json::to_string(&wire).map_err(Error::internal)
    }

    /// Reads a job back.
    ///
    /// # Errors
    ///
    /// The reason why it is no job of this version, which is for the poison queue.
    pub fn parse(job: &str) -> Result<Self, String> {
        super::known_version(job)?;
        let wire: Wire = serde_json::from_str(job).map_err(|error| error.to_string())?;
        Ok(Self {
            tenant: read(&wire.tenant)?,
            chat: read(&wire.chat)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_read_back_as_it_was_sent() {
        let job = Sweep {
            tenant: format!("tenant_{:032x}", 7).parse().unwrap(),
            chat: format!("chat_{:032x}", 8).parse().unwrap(),
        };
        assert_eq!(Sweep::parse(&job.to_text().unwrap()), Ok(job));
    }

    #[test]
    fn what_is_no_sweep_of_this_version_is_refused() {
        let tenant = format!("tenant_{:032x}", 7);
        for bad in [
            String::new(),
            "{}".to_owned(),
            format!(r#"{{"v":2,"tenant":"{tenant}","chat":"chat_{:032x}"}}"#, 8),
            format!(r#"{{"v":1,"tenant":"{tenant}","chat":"room_{:032x}"}}"#, 8),
            format!(r#"{{"v":1,"tenant":"{tenant}"}}"#),
        ] {
            assert!(Sweep::parse(&bad).is_err(), "{bad}");
        }
    }
}
