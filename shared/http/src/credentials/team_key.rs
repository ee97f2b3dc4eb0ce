//! A team's key, in `x-api-key`: `pk_live_…` from browsers, `sk_live_…` from servers.

use std::sync::Arc;

use axum::{
    extract::MatchedPath,
    http::{HeaderMap, HeaderValue},
};

use super::Credential;
use crate::{
    app::{App, auth::TeamSession},
    dialects::is_publishable,
    domain::{Error, KeyHolder, SecretHolder, api_key::Kind},
    request::{Request, onward, single},
};

/// Whoever holds one of a team's keys.
#[derive(Debug)]
pub struct TeamKey;

/// Whoever holds one of a team's secret keys.
#[derive(Debug)]
pub struct SecretKey;

const BAD_KEY: &str = "Invalid API key";

/// What the team's key opens, once the request is charged to it and found to be one that it may make, from there.
async fn session(
    app: &App,
    headers: &HeaderMap,
    request: &Request,
) -> Result<Arc<TeamSession>, Error> {
    let key = single(headers, "x-api-key", BAD_KEY)?.ok_or(Error::Unauthenticated(BAD_KEY))?;
    let moment = &request.moment;
    let session = app.open_team(key, request.address, moment).await;
    let session = session.map_err(|refusal| request.refused(refusal))?;
    request.belongs_to(session.tenant);
    let mut origins = headers.get_all("origin").iter();
    let origin = origins.next().map(HeaderValue::as_bytes);
    // Before the key is charged: pages of other sites are not to use its budget up. Their address pays.
    // Sent twice, it does not say where from.
    session.admits(origin.filter(|_| origins.next().is_none()))?;
    let (quota, verdict) = app.charge(session.budget(), &onward(moment)?).await?;
    request.pays(quota);
    verdict?;
    let route = request.route.as_ref().map_or("", MatchedPath::as_str);
    match session.kind() {
        Kind::Publishable if !is_publishable(&request.method, route) => Err(Error::SecretKeyOnly),
        Kind::Publishable | Kind::Secret => Ok(session),
    }
}

impl Credential for TeamKey {
    type Proof = KeyHolder;

    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<KeyHolder, Error> {
        let session = session(app, headers, request).await?;
        Ok(app.key_holder(&session))
    }
}

impl Credential for SecretKey {
    type Proof = SecretHolder;

    async fn authenticate(
        app: &App,
        headers: &HeaderMap,
        request: &Request,
    ) -> Result<SecretHolder, Error> {
        let session = session(app, headers, request).await?;
        app.secret_holder(&session)
    }
}
