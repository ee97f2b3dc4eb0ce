//! Query parameters.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};

use super::{
    Failure,
    ignored::{Ignored, shortened},
    request::Request,
};
use crate::domain::{
    Cursor, Error,
    page::{Slice, number},
};

/// Maximum number of unknown parameters that an error names.
const MAX_NAMED: usize = 10;

/// The query parameters of a request, each given at most once.
///
/// The routes of the seed documents pass over parameters that they do not know; `X-Ignored` names those that nobody has
/// read. Every other route refuses them with [`Params::only`].
#[derive(Debug)]
pub struct Params {
    given: BTreeMap<String, String>,
    /// Names that were given more than once. That is an error only if they are read.
    doubled: BTreeSet<String>,
    ignored: Ignored,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|_| Error::invalid("query", "Invalid query string"))?;
        let (mut given, mut doubled) = (BTreeMap::new(), BTreeSet::new());
        for (name, value) in pairs {
            match given.entry(name) {
                Entry::Vacant(entry) => drop(entry.insert(value)),
                Entry::Occupied(entry) => drop(doubled.insert(entry.key().clone())),
            }
        }
        Ok(Self {
            given,
            doubled,
            ignored: Request::of(parts)?.ignored,
        })
    }
}

/// A request that takes no query parameter, and has none.
#[derive(Debug)]
pub struct NoParams;

impl<S: Send + Sync> FromRequestParts<S> for NoParams {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let params = Params::from_request_parts(parts, state).await?;
        params.only(&[])?;
        Ok(Self)
    }
}

impl Params {
    /// The parameters that [`Params::slice`] reads.
    pub const SLICE: &[&str] = &["limit", "offset", "cursor"];

    /// Refuses every parameter but those in `known`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] that names the parameters that are not known.
    pub fn only(&self, known: &[&str]) -> Result<(), Error> {
        let unknown = self.given.keys().map(String::as_str);
        let unknown: Vec<_> = unknown
            .filter(|name| !known.contains(name))
            .take(MAX_NAMED)
            .map(shortened)
            .collect();
        let Some(first) = unknown.first() else {
            return self
                .doubled
                .iter()
                .next()
                .map_or(Ok(()), |name| self.once(name));
        };
        let plural = if unknown.len() == 1 { "" } else { "s" };
        let known = match known {
            [] => "This route has none".to_owned(),
            known => format!("Known: {}", known.join(", ")),
        };
        let reason = format!("Unknown parameter{plural} {}. {known}", unknown.join(", "));
        Err(Error::invalid(first.clone(), reason))
    }

    /// The parameter `name`, if it was given.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it was given more than once.
    pub fn get(&self, name: &str) -> Result<Option<&str>, Error> {
        self.ignored.read(name);
        self.once(name)?;
        Ok(self.given.get(name).map(String::as_str))
    }

    fn once(&self, name: &str) -> Result<(), Error> {
        if !self.doubled.contains(name) {
            return Ok(());
        }
        let name = shortened(name);
        let reason = format!("Invalid {name}. Give it once");
        Err(Error::invalid(name, reason))
    }

    /// A whole number within `min..=max`, if it was given.
    pub fn number(&self, name: &'static str, min: u64, max: u64) -> Result<Option<u64>, Error> {
        self.get(name)?
            .map(|text| number(name, text, min, max))
            .transpose()
    }

    /// The parameter `limit`, from 1 to `max`.
    pub fn limit(&self, max: usize) -> Result<usize, Error> {
        Ok(self.limit_given(max)?.unwrap_or(Slice::DEFAULT_LIMIT))
    }

    /// The same, if it was given.
    pub fn limit_given(&self, max: usize) -> Result<Option<usize>, Error> {
        let limit = self.number("limit", 1, max as u64)?;
        Ok(limit.map(small))
    }

    /// The parameter `offset`.
    pub fn offset(&self) -> Result<usize, Error> {
        let offset = self.number("offset", 0, Slice::MAX_OFFSET as u64)?;
        Ok(offset.map_or(0, small))
    }

    /// `limit`, `offset` and `cursor`, as every list takes them.
    pub fn slice(&self) -> Result<Slice, Error> {
        Ok(Slice {
            limit: self.limit(Slice::MAX_LIMIT)?,
            offset: self.offset()?,
            after: self.cursor()?,
        })
    }

    /// The `cursor` of a `Link` header.
    pub fn cursor(&self) -> Result<Option<Cursor>, Error> {
        self.get("cursor")?.map(super::reply::cursor).transpose()
    }
}

/// Every bound we pass fits.
fn small(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
