//! Reads request bodies into dynoxide's types and words what cannot be read as DynamoDB does.

use dynoxide::DynoxideError;
use serde::de::DeserializeOwned;

/// How dynoxide's `Deserialize` impls mark which error a message stands for. The marks must not
/// reach a caller.
const VALIDATION_MARKS: [&str; 3] = ["VALIDATION_REQUEST:", "VALIDATION_AS_READ:", "VALIDATION:"];
const SERIALIZATION_MARKS: [&str; 2] = ["SERIALIZATION_AS_READ:", "SERIALIZATION:"];

/// What DynamoDB calls a validation error although serde found it.
const VALIDATION_SIGNS: [&str; 5] = [
    "missing field",
    "unknown variant",
    "invalid type: null",
    "empty AttributeValue",
    "Supplied AttributeValue",
];

pub(super) fn read<R: DeserializeOwned>(body: &[u8]) -> Result<R, DynoxideError> {
    serde_json::from_slice(body).map_err(|error| classify(&error.to_string()))
}

fn classify(message: &str) -> DynoxideError {
    let said = message
        .rsplit_once(" at line ")
        .map_or(message, |(said, _)| said);
    let unmarked = |marks: &[&str]| marks.iter().find_map(|mark| said.strip_prefix(mark));
    if let Some(said) = unmarked(&VALIDATION_MARKS) {
        DynoxideError::ValidationException(said.to_owned())
    } else if let Some(said) = unmarked(&SERIALIZATION_MARKS) {
        DynoxideError::SerializationException(said.to_owned())
    } else if VALIDATION_SIGNS.iter().any(|sign| said.contains(sign)) {
        DynoxideError::ValidationException(said.to_owned())
    } else {
        DynoxideError::SerializationException(said.to_owned())
    }
}
