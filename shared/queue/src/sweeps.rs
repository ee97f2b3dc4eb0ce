//! The payloads of the sweep queue: something was deleted, and what it has left is to go.

use serde::{Deserialize, Serialize};

use super::{VERSION, fanout::read};
use crate::domain::{Error, TenantId, event::Gone};

/// What a deletion has left is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// Whose.
    pub tenant: TenantId,
    /// What was deleted.
    pub gone: Gone,
}

#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    v: u32,
    tenant: String,
    #[serde(flatten)]
    gone: Named,
}

/// What was deleted, under the name of its kind.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    Chat(String),
    Agent(String),
}

impl Sweep {
    /// The job as it is sent.
    pub fn to_text(&self) -> Result<String, Error> {
        let wire = Wire {
            v: VERSION,
            tenant: self.tenant.to_string(),
            gone: match self.gone {
                Gone::Chat(chat) => Named::Chat(chat.to_string()),
                Gone::Agent(agent) => Named::Agent(agent.to_string()),
            },
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
            gone: match wire.gone {
                Named::Chat(chat) => Gone::Chat(read(&chat)?),
                Named::Agent(agent) => Gone::Agent(read(&agent)?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(gone: Gone) -> Sweep {
        Sweep {
            tenant: format!("tenant_{:032x}", 7).parse().unwrap(),
            gone,
        }
    }

    #[test]
    fn a_sweep_is_read_back_as_it_was_sent() {
        for gone in [
            Gone::Chat(format!("chat_{:032x}", 8).parse().unwrap()),
            Gone::Agent(format!("agent_{:032x}", 8).parse().unwrap()),
        ] {
            let job = sweep(gone);
            assert_eq!(Sweep::parse(&job.to_text().unwrap()), Ok(job));
        }
    }

    #[test]
    fn the_sweep_of_a_chat_is_written_as_when_there_was_no_other() {
        let (tenant, chat) = (format!("tenant_{:032x}", 7), format!("chat_{:032x}", 8));
        let job = sweep(Gone::Chat(chat.parse().unwrap()));
        let text = format!(r#"{{"v":1,"tenant":"{tenant}","chat":"{chat}"}}"#);
        assert_eq!(Sweep::parse(&text), Ok(job));
        assert_eq!(job.to_text().unwrap(), text);
    }

    #[test]
    fn what_is_no_sweep_of_this_version_is_refused() {
        let tenant = format!("tenant_{:032x}", 7);
        for bad in [
            String::new(),
            "{}".to_owned(),
            format!(r#"{{"v":2,"tenant":"{tenant}","chat":"chat_{:032x}"}}"#, 8),
            format!(r#"{{"v":1,"tenant":"{tenant}","chat":"room_{:032x}"}}"#, 8),
            format!(r#"{{"v":1,"tenant":"{tenant}","agent":"chat_{:032x}"}}"#, 8),
            format!(r#"{{"v":1,"tenant":"{tenant}","agent":"chat"}}"#),
            format!(r#"{{"v":1,"tenant":"{tenant}"}}"#),
        ] {
            assert!(Sweep::parse(&bad).is_err(), "{bad}");
        }
    }
}
