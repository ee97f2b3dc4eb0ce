//! Shapes that every function of the ChatAPI surface shares, for the API's description.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::delivery::{Delivery, State};

/// An error of the ChatAPI surface.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "success": false,
    "error": {
        "code": "VALIDATION_ERROR",
        "message": "Invalid room type. Must be one of: dm, group, channel",
        "field": "type"
    }
}))]
pub struct ErrorOut {
    /// Always `false`.
    pub success: bool,
    /// What is wrong.
    pub error: ErrorBody,
}

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// `VALIDATION_ERROR` (400), `AUTHENTICATION_ERROR` (401), `AUTHORIZATION_ERROR` (403),
    /// `NOT_FOUND` (404), `METHOD_NOT_ALLOWED` (405), `CONFLICT` (409), `PAYLOAD_TOO_LARGE` (413),
    /// `UNSUPPORTED_MEDIA_TYPE` (415), `RATE_LIMIT_EXCEEDED` (429), `INTERNAL_ERROR` (500), `UPSTREAM_ERROR` (502) or
    /// `SERVICE_UNAVAILABLE` (503).
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
    /// The field, parameter or header at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The room that is in the way, where a DM exists already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<String>,
}

/// What became of one delivery.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryOut {
    /// The same each time: what receivers know it by.
    #[schema(example = "dlv_5f1c7c3e9a0b8d2f8e6d5c4b3a291807")]
    delivery_id: String,
    /// To whom; `null` where the tenant's endpoints alone are told.
    #[schema(example = "user1")]
    user_id: Option<String>,
    #[schema(example = "message.created")]
    event: String,
    /// `queued`, `attempting`, `waiting`, `delivered`, `dead` or `discarded`.
    #[schema(example = "waiting")]
    status: &'static str,
    /// How often it was tried, redrives included.
    #[schema(example = 2)]
    attempts: u32,
    #[schema(example = "2025-12-13T12:20:00.000000Z", format = "date-time")]
    last_attempt_at: Option<String>,
    /// While it waits, unless it waits for a paused endpoint.
    #[schema(example = "2025-12-13T12:20:30.000000Z", format = "date-time")]
    next_attempt_at: Option<String>,
    /// Why the last attempt failed; `null` once it is delivered.
    #[schema(example = "HTTP 500")]
    error: Option<String>,
    /// The webhook endpoint that the error is about.
    #[schema(example = "ep_0193c1a27b0c7f3e8a6d5c4b3a291807")]
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<String>,
    /// The webhook endpoints that took it.
    webhooks_done: Vec<String>,
}

impl From<Delivery> for DeliveryOut {
    fn from(delivery: Delivery) -> Self {
        // When a paused endpoint goes on, nobody knows.
        let next_attempt_at = delivery
            .state
            .next_attempt_at()
            .filter(|_| !delivery.is_held());
        let status = match &delivery.state {
            // Where it waits is ours to know.
            State::Parked { until } => State::Waiting { until: *until }.name(),
            state @ (State::Queued
            | State::Attempting { .. }
            | State::Waiting { .. }
            | State::Delivered { .. }
            | State::Dead { .. }
            | State::Discarded { .. }) => state.name(),
        };
        Self {
            delivery_id: delivery.id.to_string(),
            user_id: delivery.user.map(|user| user.to_string()),
            event: delivery.about.event,
            status,
            attempts: delivery.attempts,
            last_attempt_at: delivery.last_attempt_at.map(|at| at.to_string()),
            next_attempt_at: next_attempt_at.map(|at| at.to_string()),
            error: delivery.error,
            endpoint_id: delivery.error_endpoint,
            webhooks_done: delivery.done.into_iter().collect(),
        }
    }
}
