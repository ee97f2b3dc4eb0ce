//! What a message carries beside its body: named, typed values.
//!
//! A value's digest is the MD5 over all of them in the order of their names, each as
//! `len name, len type, kind, len value`: the lengths are 32 bits, big-endian, and the kind is one
//! byte, 1 for text (`String`, `Number`) and 2 for `Binary`.

use super::characters;
use super::fault::Fault;
use super::md5;
use aws_smithy_types::base64;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The kinds of a value in the digest.
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// By name. A type may have a label of the client's own: `Number.int`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct MessageAttributes(BTreeMap<String, Value>);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Value {
    data_type: String,
    #[serde(rename = "StringValue", skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// In Base64.
    #[serde(rename = "BinaryValue", skip_serializing_if = "Option::is_none")]
    binary: Option<String>,
}

impl MessageAttributes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The digest, or `None` if there is nothing to digest.
    ///
    /// # Errors
    ///
    /// `InvalidParameterValue` if an attribute breaks one of AWS's rules.
    pub(super) fn digest(&self) -> Result<Option<String>, Fault> {
        if self.is_empty() {
            return Ok(None);
        }
        if self.0.len() > 10 {
            return Err(Fault::invalid(format!(
                "Number of message attributes [{}] exceeds the allowed maximum [10].",
                self.0.len()
            )));
        }
        let mut form = Vec::new();
        for (name, value) in &self.0 {
            check_name(name)?;
            let (kind, bytes) = value.content(name)?;
            push(&mut form, name.as_bytes())?;
            push(&mut form, value.data_type.as_bytes())?;
            form.push(kind);
            push(&mut form, &bytes)?;
        }
        Ok(Some(md5::digest(form)))
    }

    /// Bytes, as they count towards a message's size.
    pub(super) fn weight(&self) -> usize {
        let weigh = |(name, value): (&String, &Value)| {
            let text = value.text.as_ref().map_or(0, String::len);
            let base64 = value.binary.as_deref().unwrap_or_default();
            let binary = base64.trim_end_matches('=').len() * 3 / 4;
            name.len() + value.data_type.len() + text + binary
        };
        self.0.iter().map(weigh).sum()
    }

    /// Those a receiver asked for by name, by the start of their names (`foo.*`), or `All`.
    pub(super) fn only(mut self, wanted: &[String]) -> Self {
        self.0.retain(|name, _| {
            wanted
                .iter()
                .any(|pattern| match pattern.strip_suffix(".*") {
                    Some(start) => name.starts_with(start),
                    None => pattern == "All" || pattern == name,
                })
        });
        self
    }

    /// The text of the attribute called `name`.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.text.as_deref()
    }
}

impl Value {
    /// The value's kind, and its bytes.
    fn content(&self, name: &str) -> Result<(u8, Vec<u8>), Fault> {
        let invalid =
            |reason: &str| Fault::invalid(format!("The message attribute '{name}' {reason}."));
        match (self.base_type(), &self.text, &self.binary) {
            ("String" | "Number" | "Binary", None, None) => {
                Err(invalid("must contain a non-empty value"))
            }
            ("Number", Some(text), None) if !is_number(text) => {
                Err(invalid("has a value that is not a number"))
            }
            ("String" | "Number", Some(text), None) if !text.is_empty() => {
                characters::check(text, "message attribute")?;
                Ok((TEXT, text.as_bytes().to_vec()))
            }
            ("Binary", None, Some(base64)) if !base64.is_empty() => {
                let bytes = base64::decode(base64).map_err(|_| invalid("is not Base64"))?;
                Ok((BINARY, bytes))
            }
            ("String" | "Number" | "Binary", _, _) => Err(invalid(
                "must contain the value its type asks for, and no other",
            )),
            _ => Err(invalid(
                "has an invalid message attribute type, the set of supported type prefixes is \
                 Binary, Number, and String",
            )),
        }
    }

    fn base_type(&self) -> &str {
        self.data_type
            .split_once('.')
            .map_or(self.data_type.as_str(), |(base, _)| base)
    }
}

/// Infinity is a number to Rust and not to AWS.
fn is_number(text: &str) -> bool {
    let numeric = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    text.bytes().all(numeric) && text.parse::<f64>().is_ok()
}

fn check_name(name: &str) -> Result<(), Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let lower = name.to_ascii_lowercase();
    let reserved = lower.starts_with("aws.") || lower.starts_with("amazon.");
    let dotted = name.starts_with('.') || name.ends_with('.') || name.contains("..");
    let fits = (1..=256).contains(&name.len()) && name.bytes().all(plain);
    if fits && !reserved && !dotted {
        return Ok(());
    }
    Err(Fault::invalid(format!(
        "The message attribute name '{name}' is invalid."
    )))
}

fn push(form: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Fault> {
    let length = u32::try_from(bytes.len()).map_err(Fault::internal)?;
    form.extend_from_slice(&length.to_be_bytes());
    form.extend_from_slice(bytes);
    Ok(())
}
