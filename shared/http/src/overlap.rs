//! `overlap_seconds` of a rotation: for how long the secret before it holds too, in the query or in the body.

use axum::{extract::FromRequestParts, http::request::Parts};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::{Failure, Params};
use crate::domain::{Error, page::number};

const FIELD: &str = "overlap_seconds";

/// How to rotate a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRotationIn {
    /// For how long the key before it holds too: 0 to 86,400, default 86,400.
    #[serde(default)]
    #[schema(value_type = Option<i64>, nullable = false, example = 86400, minimum = 0, maximum = 86_400)]
    pub overlap_seconds: OverlapIn,
}

/// The member `overlap_seconds` of a body, which may be left out, and is no `null`.
#[derive(Debug, Default)]
pub struct OverlapIn(Option<i64>);

impl<'de> Deserialize<'de> for OverlapIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(|seconds| Self(Some(seconds)))
    }
}

/// The query of a rotation, which may hold `overlap_seconds` and nothing else.
#[derive(Debug)]
pub struct OverlapQuery(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for OverlapQuery {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let params = Params::from_request_parts(parts, state).await?;
        params.only(&[FIELD])?;
        Ok(Self(params.get(FIELD)?.map(str::to_owned)))
    }
}

impl OverlapIn {
    /// The overlap in seconds, at most `max`: as this or `query` says, which must not disagree; `default` if neither does.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for what is no number of seconds within its bounds, and for two that are not the same.
    pub fn parse(&self, query: &OverlapQuery, max: u32, default: u32) -> Result<u32, Error> {
        let read = |text: &str| number(FIELD, text, 0, max.into());
        let in_body = self
            .0
            .map(|seconds| read(&seconds.to_string()))
            .transpose()?;
        let in_query = query.0.as_deref().map(read).transpose()?;
        match (in_body, in_query) {
            (Some(body), Some(query)) if body != query => Err(Error::invalid(
                FIELD,
                "Invalid overlap_seconds. The query and the body do not agree",
            )),
            (Some(seconds), _) | (None, Some(seconds)) => {
                u32::try_from(seconds).map_err(Error::internal)
            }
            (None, None) => Ok(default),
        }
    }
}
