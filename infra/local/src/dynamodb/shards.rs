//! Streams as AWS models them, for clients that come over the port.
//!
//! dynoxide has one shard for each stream, which is always open. It names the shard after its table, shows the newest
//! record as the end of an open shard, and passes over the bounds of the operations, the label in a stream's ARN, the shard
//! after which a description begins and the age of an iterator. SDKs of others check such things: here they are put right on the way in and out. The runner's own pollers use the stream as dynoxide shows it, and their
//! checkpoints hold its names.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::iterators::{self, Iterator};
use super::operation::Operation;
use super::{Answer, arns};

/// Bounds of the members of requests, as the API's model has them.
const BOUNDS: [(Operation, &str, u64, u64); 3] = [
    (Operation::DescribeStream, "Limit", 1, 100),
    (Operation::GetRecords, "Limit", 1, 1_000),
    (Operation::ListStreams, "Limit", 1, 100),
];
const LENGTHS: [(Operation, &str, usize, usize); 6] = [
    (Operation::DescribeStream, "StreamArn", 37, 1_024),
    (Operation::DescribeStream, "ExclusiveStartShardId", 28, 65),
    (Operation::GetRecords, "ShardIterator", 1, 2_048),
    (Operation::GetShardIterator, "StreamArn", 37, 1_024),
    (Operation::GetShardIterator, "ShardId", 28, 65),
    (Operation::ListStreams, "ExclusiveStartStreamArn", 37, 1_024),
];

/// Members that name a stream.
const ARNS: [&str; 2] = ["StreamArn", "ExclusiveStartStreamArn"];

/// The name of a table's shard, of 37 characters, as in `shardId-00000000000000000001-1f2e3d4c`.
fn shown(table: &str) -> String {
    let digest = Sha256::digest(table);
    format!("shardId-{:020}-{}", 1, hex::encode(&digest[..4]))
}

/// The name that dynoxide gives it.
fn stored(table: &str) -> String {
    format!("shardId-00000001-{table}")
}

/// The table of `arn:aws:dynamodb:…:table/Messages/stream/…`.
fn table_of(arn: &str) -> Option<&str> {
    arn.split('/').nth(1)
}

/// A stream that a request names: dynoxide looks at the table in its ARN alone.
#[derive(Debug)]
pub(super) struct Named {
    /// As it was sent.
    arn: String,
}

impl Named {
    /// Lists the streams among which it must be.
    pub(super) fn siblings(&self) -> Vec<u8> {
        let table = table_of(&self.arn).unwrap_or_default();
        json!({ "TableName": table }).to_string().into_bytes()
    }

    /// The refusal, if it is not among those that were `listed`.
    pub(super) fn absent_from(&self, listed: &Answer) -> Option<Answer> {
        let arn = arns::stored(&self.arn);
        let body: Value = serde_json::from_slice(&listed.body).unwrap_or_default();
        let mut streams = body["Streams"].as_array().into_iter().flatten();
        let is_absent = listed.status == 200 && !streams.any(|it| it["StreamArn"] == *arn);
        is_absent.then(|| not_found(&format!("Stream: {} not found", self.arn)))
    }
}

/// The stream that `body` names, or the refusal of what is out of bounds.
pub(super) fn named(operation: Operation, body: &[u8]) -> Result<Option<Named>, Answer> {
    let Some(request) = request_of_streams(operation, body) else {
        return Ok(None);
    };
    check(operation, &request)?;
    if let Some(shown) = request.get("ShardIterator").and_then(Value::as_str) {
        let iterator = Iterator::parse(shown).ok_or_else(|| {
            let kind = "com.amazon.coral.validate#ValidationException";
            refusal(kind, "Invalid ShardIterator.")
        })?;
        if iterator.is_expired(iterators::now()) {
            let kind = "com.amazonaws.dynamodb.v20120810#ExpiredIteratorException";
            let message = "Iterator expired. It was made more than 15 minutes ago.";
            return Err(refusal(kind, message));
        }
        return Ok(Some(Named { arn: iterator.arn }));
    }
    let arn = ARNS.iter().find_map(|name| request.get(*name)?.as_str());
    Ok(arn.map(|arn| Named {
        arn: arn.to_owned(),
    }))
}

/// `body` as dynoxide is to be asked, or the refusal. A body that is not read here is dynoxide's to refuse.
pub(super) fn inward(operation: Operation, body: Vec<u8>) -> Result<Vec<u8>, Answer> {
    let Some(mut request) = request_of_streams(operation, &body) else {
        return Ok(body);
    };
    let text = |name: &str| request.get(name).and_then(Value::as_str);
    let arn = text("StreamArn").unwrap_or_default();
    let table = table_of(arn).unwrap_or_default().to_owned();
    let shards = [text("ShardId"), text("ExclusiveStartShardId")];
    for shard in shards.into_iter().flatten() {
        // Without a stream there is no shard to be of it: that is dynoxide's to say.
        if !arn.is_empty() && shard != shown(&table) {
            let what = format!("Shard: {shard} in Stream: {arn} not found");
            return Err(not_found(&what));
        }
    }
    if let Some(shard) = request.get_mut("ShardId") {
        *shard = stored(&table).into();
    }
    if let Some(Value::String(shown)) = request.get_mut("ShardIterator")
        && let Some(iterator) = Iterator::parse(shown)
    {
        let table = table_of(&iterator.arn).unwrap_or_default();
        *shown = iterator.stored(table, stored(table));
    }
    for name in ARNS {
        if let Some(Value::String(arn)) = request.get_mut(name) {
            *arn = arns::stored(arn);
        }
    }
    Ok(Value::Object(request).to_string().into_bytes())
}

/// The `answer` of dynoxide to `request`, which names a stream, as AWS would give it.
pub(super) fn outward(
    operation: Operation,
    named: Option<&Named>,
    request: &[u8],
    answer: Answer,
) -> Answer {
    let iterator = match operation {
        Operation::GetShardIterator => Some("ShardIterator"),
        Operation::GetRecords => Some("NextShardIterator"),
        Operation::DescribeStream => None,
        _ => return answer,
    };
    if answer.status != 200 {
        return answer;
    }
    let Ok(mut described) = serde_json::from_slice::<Value>(&answer.body) else {
        return answer;
    };
    if let (Some(member), Some(named)) = (iterator, named) {
        let given = described[member].as_str();
        let given = given.and_then(|it| Iterator::given(&named.arn, it, iterators::now()));
        if let Some(given) = given {
            described[member] = given.shown().into();
        }
        return Answer {
            body: described.to_string().into_bytes(),
            ..answer
        };
    }
    let stream = &mut described["StreamDescription"];
    let table = stream["TableName"].as_str().unwrap_or_default().to_owned();
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    if request["ExclusiveStartShardId"].is_string() {
        // It is the last.
        stream["Shards"] = json!([]);
    }
    for shard in stream["Shards"].as_array_mut().into_iter().flatten() {
        shard["ShardId"] = shown(&table).into();
        if let Some(range) = shard["SequenceNumberRange"].as_object_mut() {
            // Only a closed shard has an end.
            range.remove("EndingSequenceNumber");
        }
    }
    Answer {
        body: described.to_string().into_bytes(),
        ..answer
    }
}

/// The members of a request of the streams; `None` for another, and for one that cannot be read.
fn request_of_streams(operation: Operation, body: &[u8]) -> Option<Map<String, Value>> {
    if !is_of_streams(operation) {
        return None;
    }
    serde_json::from_slice(body).ok()
}

fn is_of_streams(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::DescribeStream
            | Operation::GetRecords
            | Operation::GetShardIterator
            | Operation::ListStreams
    )
}

fn check(operation: Operation, request: &Map<String, Value>) -> Result<(), Answer> {
    let bounds = BOUNDS.iter().filter(|(of, ..)| *of == operation);
    for (_, name, least, most) in bounds {
        let value = request.get(*name).and_then(Value::as_i64);
        let Some(value) = value else { continue };
        let is_low = u64::try_from(value).is_ok_and(|value| value < *least) || value < 0;
        let bound = if is_low {
            format!("value greater than or equal to {least}")
        } else if u64::try_from(value).is_ok_and(|value| value > *most) {
            format!("value less than or equal to {most}")
        } else {
            continue;
        };
        return Err(invalid(name, &value.to_string(), &bound));
    }
    let lengths = LENGTHS.iter().filter(|(of, ..)| *of == operation);
    for (_, name, least, most) in lengths {
        let Some(value) = request.get(*name).and_then(Value::as_str) else {
            continue;
        };
        let bound = if value.len() < *least {
            format!("length greater than or equal to {least}")
        } else if value.len() > *most {
            format!("length less than or equal to {most}")
        } else {
            continue;
        };
        return Err(invalid(name, value, &bound));
    }
    Ok(())
}

fn invalid(name: &str, value: &str, bound: &str) -> Answer {
    let mut member = name.to_owned();
    if let Some(first) = member.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let message = format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must have {bound}"
    );
    refusal("com.amazon.coral.validate#ValidationException", &message)
}

fn not_found(what: &str) -> Answer {
    let kind = "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException";
    refusal(kind, &format!("Requested resource not found: {what}"))
}

fn refusal(kind: &str, message: &str) -> Answer {
    Answer {
        status: 400,
        body: json!({ "__type": kind, "message": message })
            .to_string()
            .into_bytes(),
    }
}
