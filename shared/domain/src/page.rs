//! Pages of a list.

use std::str::FromStr;

use super::Error;

/// Where the next page starts: opaque to clients, readable to the list that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

impl Cursor {
    /// What this cursor says, to the list that made it.
    pub fn parse<T: FromStr>(&self) -> Result<T, Error> {
        self.0.parse().map_err(|_| Self::invalid())
    }

    /// What a cursor is answered that no list made.
    pub fn invalid() -> Error {
        Error::invalid(
            "cursor",
            "Invalid cursor. Use the one that the answer before gave to the same request",
        )
    }
}

/// One page, and where the next one starts if there is one.
#[derive(Debug)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page of `items`; if there are `more`, the next one starts after the last, which `name` names.
    pub fn new(items: Vec<T>, more: bool, name: impl Fn(&T) -> String) -> Self {
        let next = items.last().filter(|_| more).map(|last| Cursor(name(last)));
        Self { items, next }
    }
}

/// Which part of a list is wanted.
#[derive(Debug, Clone)]
pub struct Slice {
    /// How many items at most.
    pub limit: usize,
    /// How many to pass over first.
    pub offset: usize,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

impl Slice {
    /// The most items that may be passed over: a later page is reached by its cursor.
    pub const MAX_OFFSET: usize = 1_000;
    /// The seed's default of `limit`.
    pub const DEFAULT_LIMIT: usize = 50;
    /// The seed's largest `limit`.
    pub const MAX_LIMIT: usize = 100;

    /// The first `limit` items.
    pub const fn first(limit: usize) -> Self {
        Self {
            limit,
            offset: 0,
            after: None,
        }
    }
}

/// Reads a whole number within `min..=max` from parameter `field`.
pub fn number(field: &'static str, text: &str, min: u64, max: u64) -> Result<u64, Error> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(number) if digits && (min..=max).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(Error::invalid(
            field,
            format!("Invalid {field}. It is a whole number from {min} to {max}"),
        )),
    }
}
