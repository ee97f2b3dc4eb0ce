//! Ids in paths.

use std::str::FromStr;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use super::Failure;
use crate::domain::{
    AgentId, ApiKeyId, ChatId, EndpointId, Error, MessageId, NotificationId, ProviderKeyId, RoomId,
    SubscriptionId, TenantId, TenantKeyId, UserId,
};

/// The ids of a path, in its order. What is not an id names nothing: not found.
#[derive(Debug)]
pub struct Path<T>(pub T);

/// Something that stands in a path.
pub trait Segment: Sized {
    /// Reads a decoded path segment.
    fn read(segment: &str) -> Result<Self, Error>;
}

fn id<T: FromStr>(segment: &str, what: &'static str) -> Result<T, Error> {
    segment.parse().map_err(|_| Error::NotFound(what))
}

impl Segment for RoomId {
    fn read(segment: &str) -> Result<Self, Error> {
        id(segment, "Room")
    }
}

impl Segment for ChatId {
    fn read(segment: &str) -> Result<Self, Error> {
        id(segment, "Chat")
    }
}

impl Segment for MessageId {
    fn read(segment: &str) -> Result<Self, Error> {
        id(segment, "Message")
    }
}

impl Segment for EndpointId {
    fn read(segment: &str) -> Result<Self, Error> {
        id(segment, "Webhook endpoint")
    }
}

impl Segment for AgentId {
    fn read(segment: &str) -> Result<Self, Error> {
        id(segment, "Agent")
    }
}

impl Segment for ApiKeyId {
    fn read(segment: &str) -> Result<Self, Error> {
        id(segment, "API key")
    }
}

impl Segment for TenantKeyId {
    fn read(segment: &str) -> Result<Self, Error> {
        id(segment, "Key")
    }
}

impl Segment for ProviderKeyId {
    fn read(segment: &str) -> Result<Self, Error> {
        id(segment, "Provider key")
    }
}

impl Segment for NotificationId {
    fn read(segment: &str) -> Result<Self, Error> {
        id(segment, "Notification")
    }
}

impl Segment for SubscriptionId {
    fn read(segment: &str) -> Result<Self, Error> {
        id(segment, "Subscription")
    }
}

impl Segment for TenantId {
    fn read(segment: &str) -> Result<Self, Error> {
        id(segment, "Tenant")
    }
}

impl Segment for UserId {
    fn read(segment: &str) -> Result<Self, Error> {
        Self::parse("user_id", segment)
    }
}

/// The decoded segments of a path's parameters.
async fn segments<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Vec<String>, Failure> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| Error::NotFound("Path"))?;
    Ok(params.iter().map(|(_, value)| value.to_owned()).collect())
}

fn nth<T: Segment>(segments: &[String], index: usize) -> Result<T, Failure> {
    let segment = segments.get(index).ok_or(Error::NotFound("Path"))?;
    Ok(T::read(segment)?)
}

impl<A: Segment, S: Send + Sync> FromRequestParts<S> for Path<A> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let segments = segments(parts, state).await?;
        Ok(Self(nth(&segments, 0)?))
    }
}

impl<A: Segment, B: Segment, S: Send + Sync> FromRequestParts<S> for Path<(A, B)> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let segments = segments(parts, state).await?;
        Ok(Self((nth(&segments, 0)?, nth(&segments, 1)?)))
    }
}
