//! Reading and writing the attributes of items.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::domain::{Error, Timestamp};

/// The version of every item's shape, for the reader that will have to tell two of them apart.
pub(super) const VERSION: u64 = 1;

/// An item as the SDK gives it.
pub(super) type Item = HashMap<String, AttributeValue>;

/// An item lacks what its shape promises. A fault of ours: the item was not written by this code.
#[derive(Debug)]
struct Malformed {
    attribute: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item with a missing or malformed `{}`", self.attribute)
    }
}

impl std::error::Error for Malformed {}

/// What an item lacks.
pub(super) fn malformed(attribute: &'static str) -> Error {
    Error::internal(Malformed { attribute })
}

/// A string attribute.
#[expect(
    clippy::needless_pass_by_value,
    reason = "call sites read better without `&`"
)]
pub(super) fn s(text: impl ToString) -> AttributeValue {
    AttributeValue::S(text.to_string())
}

/// A number attribute.
#[expect(
    clippy::needless_pass_by_value,
    reason = "call sites read better without `&`"
)]
pub(super) fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// An item under construction.
pub(super) struct NewItem(Item);

impl NewItem {
    /// An item of the current version.
    pub(super) fn new() -> Self {
        Self(HashMap::from([("v".to_owned(), n(VERSION))]))
    }

    /// With a string.
    pub(super) fn s(mut self, name: &str, text: impl ToString) -> Self {
        self.0.insert(name.to_owned(), s(text));
        self
    }

    /// With a string, if there is one.
    pub(super) fn s_opt(self, name: &str, text: Option<impl ToString>) -> Self {
        match text {
            Some(text) => self.s(name, text),
            None => self,
        }
    }

    /// With a number.
    pub(super) fn n(mut self, name: &str, number: impl ToString) -> Self {
        self.0.insert(name.to_owned(), n(number));
        self
    }

    /// With a list of strings, if it is not empty.
    pub(super) fn list(mut self, name: &str, texts: impl Iterator<Item = String>) -> Self {
        let texts: Vec<_> = texts.map(AttributeValue::S).collect();
        if !texts.is_empty() {
            self.0.insert(name.to_owned(), AttributeValue::L(texts));
        }
        self
    }

    /// With strings by name, if there are any.
    pub(super) fn texts_opt(self, name: &str, texts: &BTreeMap<String, String>) -> Self {
        if texts.is_empty() {
            return self;
        }
        let item = texts.iter().map(|(name, text)| (name.clone(), s(text)));
        self.map(name, item.collect())
    }

    /// With an item within it.
    pub(super) fn map(mut self, name: &str, item: Item) -> Self {
        self.0.insert(name.to_owned(), AttributeValue::M(item));
        self
    }

    /// The item.
    pub(super) fn build(self) -> Item {
        self.0
    }
}

/// Takes a string that may be absent out of `item`: a long one is not copied.
pub(super) fn take(item: &mut Item, name: &'static str) -> Result<Option<String>, Error> {
    match item.remove(name) {
        None => Ok(None),
        Some(AttributeValue::S(text)) => Ok(Some(text)),
        Some(_) => Err(malformed(name)),
    }
}

/// Reading the attributes of an [`Item`].
pub(super) trait Read {
    /// A string that the shape promises.
    fn text(&self, name: &'static str) -> Result<&str, Error>;
    /// A string that may be absent.
    fn text_opt(&self, name: &'static str) -> Result<Option<&str>, Error>;
    /// A string that the shape promises, as a `T`.
    fn parse<T: FromStr>(&self, name: &'static str) -> Result<T, Error>;
    /// A string that may be absent, as a `T`.
    fn parse_opt<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Error>;
    /// A number that the shape promises.
    fn number<T: FromStr>(&self, name: &'static str) -> Result<T, Error>;
    /// A number that may be absent.
    fn number_opt<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Error>;
    /// A time that may be absent.
    fn time_opt(&self, name: &'static str) -> Result<Option<Timestamp>, Error>;
    /// A list of strings; an absent one is empty.
    fn texts(&self, name: &'static str) -> Result<Vec<&str>, Error>;
    /// Strings by name; absent ones are none.
    fn text_map(&self, name: &'static str) -> Result<BTreeMap<String, String>, Error>;
}

impl Read for Item {
    fn text(&self, name: &'static str) -> Result<&str, Error> {
        self.text_opt(name)?.ok_or_else(|| malformed(name))
    }

    fn text_opt(&self, name: &'static str) -> Result<Option<&str>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value
                .as_s()
                .map(|text| Some(text.as_str()))
                .map_err(|_| malformed(name)),
        }
    }

    fn parse<T: FromStr>(&self, name: &'static str) -> Result<T, Error> {
        self.text(name)?.parse().map_err(|_| malformed(name))
    }

    fn parse_opt<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Error> {
        self.text_opt(name)?
            .map(|text| text.parse().map_err(|_| malformed(name)))
            .transpose()
    }

    fn number<T: FromStr>(&self, name: &'static str) -> Result<T, Error> {
        self.number_opt(name)?.ok_or_else(|| malformed(name))
    }

    fn number_opt<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                let digits = value.as_n().map_err(|_| malformed(name))?;
                digits.parse().map(Some).map_err(|_| malformed(name))
            }
        }
    }

    fn time_opt(&self, name: &'static str) -> Result<Option<Timestamp>, Error> {
        self.parse_opt(name)
    }

    fn texts(&self, name: &'static str) -> Result<Vec<&str>, Error> {
        let Some(value) = self.get(name) else {
            return Ok(Vec::new());
        };
        let list = value.as_l().map_err(|_| malformed(name))?;
        list.iter()
            .map(|text| text.as_s().map(String::as_str).map_err(|_| malformed(name)))
            .collect()
    }

    fn text_map(&self, name: &'static str) -> Result<BTreeMap<String, String>, Error> {
        let Some(value) = self.get(name) else {
            return Ok(BTreeMap::new());
        };
        let map = value.as_m().map_err(|_| malformed(name))?;
        map.iter()
            .map(|(key, text)| {
                let text = text.as_s().map_err(|_| malformed(name))?;
                Ok((key.clone(), text.clone()))
            })
            .collect()
    }
}
