//! Connections: the events of the WebSocket API, and the tokens with which browsers connect.

mod connect;
mod frames;
mod wire;

use std::time::Duration;

use aws_lambda_events::{
    apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest},
    encodings::Body,
};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use parlance::{
    app::App,
    domain::{
        ConnectionId, Error, Moment,
        secret::{SecretHash, SocketToken},
    },
    http::{
        Caller, NoBody, NoParams, Now, Reply, Show,
        credentials::TenantUser,
        dialects::{ChatApi, Dialect},
        entropy, moment,
        telemetry::socket::Observed,
        wire::ErrorOut,
    },
};

use self::wire::TokenOut;

/// How long an event may take: less than the 29 s of API Gateway.
const PATIENCE: Duration = Duration::from_secs(10);

/// The routes of the `ws-token` function.
pub fn routes() -> Router<App> {
    Router::new().route("/ws/token", post(token))
}

/// What this function adds to the API's description.
#[derive(utoipa::OpenApi)]
#[openapi(paths(token))]
pub struct Doc;

/// Get a token for a connection
///
/// Opens one WebSocket connection for the caller, once, within 60 seconds: `GET /ws?token=wst_…`. For browsers, which
/// must not know the API key and cannot send headers.
#[utoipa::path(
    post,
    path = "/ws/token",
    tag = "Live",
    responses(
        (status = 200, description = "The token, shown this once", body = TokenOut),
        (status = 401, description = "No valid API key", body = ErrorOut),
    ),
)]
async fn token(
    State(app): State<App>,
    Caller(actor): Caller<TenantUser>,
    _: NoParams,
    Now(moment): Now,
    headers: HeaderMap,
    _: NoBody,
) -> Reply<TokenOut> {
    // It has opened this very request.
    let key = headers.get("x-api-key").ok_or(Error::Unauthenticated(
        "Missing API key. Send it as X-API-Key",
    ))?;
    let key = SecretHash::of(key.as_bytes());
    let token = app.socket_token(&actor, key, entropy()?, &moment).await?;
    Ok(Show::ok(TokenOut {
        token: token.expose().to_owned(),
        expires_in: SocketToken::SECONDS,
    }))
}

/// Takes an event of the WebSocket API. What a client is to be told in answer to its frame is the body.
pub async fn handle(app: &App, event: ApiGatewayWebsocketProxyRequest) -> ApiGatewayProxyResponse {
    let context = &event.request_context;
    let observed = Observed::begin(
        context.route_key.as_deref().unwrap_or_default(),
        context.request_id.clone().unwrap_or_default(),
    );
    let work = Box::pin(answer(app, &event, &observed));
    let answer = observed.of(work).await;
    let (status, body) = match &answer {
        Ok(body) => (StatusCode::OK, body.clone()),
        Err(error) => (ChatApi::status(error), None),
    };
    observed.end(ChatApi::NAME, status, answer.err().as_ref());
    response(status, body)
}

async fn answer(
    app: &App,
    event: &ApiGatewayWebsocketProxyRequest,
    observed: &Observed,
) -> Result<Option<String>, Error> {
    let context = &event.request_context;
    let moment: Moment = moment(PATIENCE)?;
    let id = context.connection_id.as_deref().unwrap_or_default();
    let id = ConnectionId::parse(id)
        .ok_or_else(|| Error::internal("an event without a connection's id"))?;
    match context.route_key.as_deref() {
        Some("$connect") => {
            let tenant = connect::connect(app, event, id, &moment).await?;
            observed.belongs_to(tenant);
            Ok(None)
        }
        Some("$disconnect") => app.disconnect(&id, &moment).await.map(|()| None),
        Some("$default") => {
            let text = event.body.as_deref().unwrap_or_default();
            Ok(frames::answer(app, &id, text, &moment, observed).await)
        }
        Some(_) | None => Err(Error::internal("an event of no known route")),
    }
}

fn response(status: StatusCode, body: Option<String>) -> ApiGatewayProxyResponse {
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = status.as_u16().into();
    response.body = body.map(Body::Text);
    response
}
