//! Shapes that every function of the ChatAPI surface shares, for the API's description.

use serde::Serialize;
use utoipa::ToSchema;

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
    /// `RATE_LIMIT_EXCEEDED` (429), `INTERNAL_ERROR` (500) or `SERVICE_UNAVAILABLE` (503).
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
