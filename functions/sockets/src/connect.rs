//! Who may connect: whoever has a token, or a tenant's server with its key.

use std::net::IpAddr;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use axum::http::{HeaderMap, HeaderValue};
use parlance::{
    app::{App, auth::Session, quota::Refusal},
    domain::{
        Actor, ConnectionId, Error, Moment, TenantId, UserId, rate::Charge, secret::SecretHash,
    },
    http::{network, onward},
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
    let Opened { session, key, user } = match open(app, event, address, moment).await {
        Ok(opened) => opened,
        Err(Refusal {
            error: error @ Error::Unauthenticated(_),
            ..
        }) => {
            // No valid credential: the address pays.
            let (_, verdict) = app.charge_address(Charge::Invalid, address, moment);
            return Err(verdict.err().unwrap_or(error));
        }
        Err(refusal) => return Err(refusal.error),
    };
    let (_, verdict) = app.charge(session.budget(), &onward(moment)?).await?;
    verdict?;
    let actor = match user {
        Some(actor) => actor,
        None => app.actor(&session, user_of(event)?),
    };
    app.connect(&actor, key, id, &onward(moment)?).await?;
    Ok(actor.tenant())
}

/// What a credential opens.
struct Opened {
    session: Session,
    key: SecretHash,
    /// Who connects, if the credential says so.
    user: Option<Actor>,
}

/// Opens with the credential of `event`.
async fn open(
    app: &App,
    event: &ApiGatewayWebsocketProxyRequest,
    address: Option<IpAddr>,
    moment: &Moment,
) -> Result<Opened, Refusal> {
    if let Some(token) = event.query_string_parameters.first("token") {
        let opened = app.open_with_token_from(token.as_bytes(), address, moment);
        let (session, key, actor) = opened.await?;
        return Ok(Opened {
            session,
            key,
            user: Some(actor),
        });
    }
    let key = single(&event.headers, "x-api-key", "Send X-API-Key once")?.ok_or(
        Error::Unauthenticated("Missing credential. Send ?token= or the header X-API-Key"),
    )?;
    Ok(Opened {
        session: app.open_tenant(key, address, moment).await?,
        key: SecretHash::of(key),
        user: None,
    })
}

/// The user whom a tenant's server names.
fn user_of(event: &ApiGatewayWebsocketProxyRequest) -> Result<UserId, Error> {
    match single(&event.headers, "x-user-id", "Send X-User-Id once")? {
        // What is not UTF-8 is refused by the same rule as what is not ASCII.
        Some(user) => UserId::parse("X-User-Id", std::str::from_utf8(user).unwrap_or_default()),
        None => match event.query_string_parameters.first("user_id") {
            Some(user) => UserId::parse("user_id", user),
            None => Err(Error::Unauthenticated(
                "Missing user. Send the user's id as X-User-Id",
            )),
        },
    }
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
