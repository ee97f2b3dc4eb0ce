//! A tenant's key, in `X-API-Key`.

use axum::http::HeaderMap;

use super::Credential;
use crate::{
    app::{App, auth::Session},
    domain::{Actor, Error, TenantKey, UserId},
    request::{Request, onward, single},
};

/// A tenant's server, acting for the user in `X-User-Id`.
#[derive(Debug)]
pub struct TenantUser;

/// A tenant's server, acting for the tenant itself: no user is named.
#[derive(Debug)]
pub struct TenantServer;

const TWO_KEYS: &str = "Send X-API-Key once";
const TWO_USERS: &str = "Send X-User-Id once";

/// What the tenant's key opens, once the request is charged to the tenant.
async fn session(app: &App, headers: &HeaderMap, request: &Request) -> Result<Session, Error> {
    let key = single(headers, "x-api-key", TWO_KEYS)?.ok_or(Error::Unauthenticated(
        "Missing API key. Send it as X-API-Key",
    ))?;
    let moment = &request.moment;
    let session = app.open_tenant(key, request.address, moment).await;
    let session = session.map_err(|refusal| request.refused(refusal))?;
    request.belongs_to(session.tenant);
    let (quota, verdict) = app.charge(session.budget(), &onward(moment)?).await?;
    request.pays(quota);
    verdict?;
    Ok(session)
}

impl Credential for TenantUser {
    type Proof = Actor;

    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<Actor, Error> {
        let session = session(app, headers, request).await?;
        let user = single(headers, "x-user-id", TWO_USERS)?.ok_or(Error::Unauthenticated(
            "Missing user. Send the user's id as X-User-Id",
        ))?;
        // What is not UTF-8 is refused by the same rule as what is not ASCII.
        let user = UserId::parse("X-User-Id", std::str::from_utf8(user).unwrap_or_default())?;
        Ok(app.actor(&session, user))
    }
}

impl Credential for TenantServer {
    type Proof = TenantKey;

    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<TenantKey, Error> {
        let session = session(app, headers, request).await?;
        Ok(app.tenant_key(&session))
    }
}
