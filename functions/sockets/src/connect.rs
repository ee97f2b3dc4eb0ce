//! Who may connect: whoever has a token, or a tenant's server with its key.

use std::{net::IpAddr, time::Duration};

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use axum::http::{HeaderMap, HeaderValue};
use parlance::{
    app::{App, auth::Session},
    domain::{Actor, ConnectionId, Error, Moment, TenantId, UserId, secret::SecretHash},
    http::network,
};

/// Lets a connection in, and says whose it is.
pub(crate) async fn connect(
    app: &App,
    event: &ApiGatewayWebsocketProxyRequest,
    id: ConnectionId,
    moment: &Moment,
) -> Result<TenantId, Error> {
    let address = event.request_context.identity.source_ip.as_deref();
    let address = address.and_then(|it| it.parse().ok()).map(network);
    let known = match authenticate(app, event, address, moment).await {
        Err(error @ Error::Unauthenticated(_)) => {
            // No valid key: the address pays.
            let (_, verdict) = app.charge_address(address, moment);
            return Err(verdict.err().unwrap_or(error));
        }
        known => known?,
    };
    let (actor, key) = known;
    let now = parlance::http::moment(Duration::ZERO)?.now;
    let admitted = Moment { now, ..*moment };
    app.connect(&actor, key, id, &admitted).await?;
    Ok(actor.tenant())
}

async fn authenticate(
    app: &App,
    event: &ApiGatewayWebsocketProxyRequest,
    address: Option<IpAddr>,
    moment: &Moment,
) -> Result<(Actor, SecretHash), Error> {
    let query = &event.query_string_parameters;
    if let Some(token) = query.first("token") {
        app.may_guess(address, moment)?;
        let (session, key, actor) = app.open_with_token(token.as_bytes(), moment).await?;
        charge(app, &session, moment).await?;
        return Ok((actor, key));
    }
    let key = single(&event.headers, "x-api-key", "Send X-API-Key once")?.ok_or(
        Error::Unauthenticated("Missing credential. Send ?token= or the header X-API-Key"),
    )?;
    let session = if let Some(session) = app.remembered(key, moment)? {
        session
    } else {
        // Guessing costs the guesser, before it costs us a read.
        app.may_guess(address, moment)?;
        app.session(key, moment).await?
    };
    charge(app, &session, moment).await?;
    let user = match single(&event.headers, "x-user-id", "Send X-User-Id once")? {
        // What is not UTF-8 is refused by the same rule as what is not ASCII.
        Some(user) => UserId::parse("X-User-Id", std::str::from_utf8(user).unwrap_or_default())?,
        None => match query.first("user_id") {
            Some(user) => UserId::parse("user_id", user)?,
            None => {
                return Err(Error::Unauthenticated(
                    "Missing user. Send the user's id as X-User-Id",
                ));
            }
        },
    };
    Ok((app.actor(&session, user), SecretHash::of(key)))
}

async fn charge(app: &App, session: &Session, moment: &Moment) -> Result<(), Error> {
    let (_, verdict) = app.charge(session.budget(), moment).await?;
    verdict
}

/// The one value of a header.
fn single<'a>(
    headers: &'a HeaderMap,
    name: &str,
    twice: &'static str,
) -> Result<Option<&'a [u8]>, Error> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(HeaderValue::as_bytes);
    if values.next().is_some() {
        return Err(Error::Unauthenticated(twice));
    }
    Ok(first)
}
