//! What callers prove who they are with. Each looks for it in the headers, charges the request to its owner, and gives a proof
//! that only `app` makes; no dialect is known here.

mod master_key;
mod team_key;
mod tenant_key;

use std::future::Future;

use axum::http::HeaderMap;

pub use self::{
    master_key::{MasterKey, MasterKeyOrServer, MasterKeyOrUser},
    team_key::{SecretKey, TeamKey},
    tenant_key::{TenantServer, TenantUser},
};
use super::request::Request;
use crate::{app::App, domain::Error};

/// A kind of credential.
pub trait Credential: Send + Sync + 'static {
    /// The proof of who calls.
    type Proof: Send;

    /// Finds and checks the credential, and charges the request to its owner.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] without one that holds, [`Error::Forbidden`] and [`Error::SecretKeyOnly`] for one that does not open this,
    /// [`Error::RateLimited`] once its budget is used up, and what befalls a look-up.
    fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> impl Future<Output = Result<Self::Proof, Error>> + Send;
}
