//! Streams as AWS models them, for clients that come over the port.
//!
//! dynoxide has one shard for each stream, which is always open. It names the shard after its table, shows the newest
//! record as the end of an open shard, and passes over the bounds of the operations. SDKs of others check such things: here
//! they are put right on the way in and out. The runner's own pollers use the stream as dynoxide shows it, and their
//! checkpoints hold its names.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::Answer;
use super::operation::Operation;

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

/// `body` as dynoxide is to be asked, or the refusal. A body that is not read here is dynoxide's to refuse.
pub(super) fn inward(operation: Operation, body: Vec<u8>) -> Result<Vec<u8>, Answer> {
    if !is_of_streams(operation) {
        return Ok(body);
    }
    let Ok(Value::Object(mut request)) = serde_json::from_slice(&body) else {
        return Ok(body);
    };
    check(operation, &request)?;
    if operation == Operation::GetShardIterator
        && let Some(arn) = request.get("StreamArn").and_then(Value::as_str)
        && let Some(table) = table_of(arn)
        && let Some(shard) = request.get("ShardId").and_then(Value::as_str)
    {
        if shard != shown(table) {
            let message = format!("Requested resource not found: Shard: {shard} in stream: {arn}");
            let kind = "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException";
            return Err(refusal(kind, &message));
        }
        let shard = stored(table);
        request.insert("ShardId".to_owned(), shard.into());
        return Ok(Value::Object(request).to_string().into_bytes());
    }
    Ok(body)
}

/// The `answer` of dynoxide to `request`, as AWS would give it.
pub(super) fn outward(operation: Operation, request: &[u8], answer: Answer) -> Answer {
    if operation != Operation::DescribeStream || answer.status != 200 {
        return answer;
    }
    let Ok(mut described) = serde_json::from_slice::<Value>(&answer.body) else {
        return answer;
    };
    let stream = &mut described["StreamDescription"];
    let table = stream["TableName"].as_str().unwrap_or_default().to_owned();
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    if request["ExclusiveStartShardId"] == shown(&table).as_str() {
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

fn refusal(kind: &str, message: &str) -> Answer {
    Answer {
        status: 400,
        body: json!({ "__type": kind, "message": message })
            .to_string()
            .into_bytes(),
    }
}
