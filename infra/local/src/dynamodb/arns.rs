//! ARNs as clients see them that come over the port: of the region that the queues are in.
//!
//! dynoxide calls its region `dynoxide`, and so do the files that the runner keeps. A client takes what it was given for
//! one service to be a region of the other too: here it is `us-east-1` on the way out, and either on the way in.

use serde_json::Value;

use super::Answer;
use super::operation::Operation;
use crate::clients::USUAL_REGION;

/// The region of dynoxide's ARNs.
const STORED: &str = "dynoxide";
/// The services of the ARNs in descriptions.
const SERVICES: [&str; 2] = ["dynamodb", "kms"];

/// `arn` as dynoxide has it.
pub(super) fn stored(arn: &str) -> String {
    in_region(arn, USUAL_REGION, STORED)
}

/// The `answer` of dynoxide with the ARNs of its region.
pub(super) fn outward(operation: Operation, answer: Answer) -> Answer {
    match operation {
        Operation::CreateTable
        | Operation::DeleteTable
        | Operation::DescribeTable
        | Operation::UpdateTable
        | Operation::DescribeStream
        | Operation::GetShardIterator
        | Operation::ListStreams => changed(answer, |body| {
            // No items are in it.
            each_text(body, &|text| in_region(text, STORED, USUAL_REGION));
        }),
        Operation::GetRecords => changed(answer, |body| {
            let records = body.get_mut("Records").and_then(Value::as_array_mut);
            for record in records.into_iter().flatten() {
                record["awsRegion"] = USUAL_REGION.into();
            }
        }),
        Operation::BatchExecuteStatement
        | Operation::BatchGetItem
        | Operation::BatchWriteItem
        | Operation::DeleteItem
        | Operation::DescribeTimeToLive
        | Operation::ExecuteStatement
        | Operation::ExecuteTransaction
        | Operation::GetItem
        | Operation::ListTables
        | Operation::ListTagsOfResource
        | Operation::PutItem
        | Operation::Query
        | Operation::Scan
        | Operation::TagResource
        | Operation::TransactGetItems
        | Operation::TransactWriteItems
        | Operation::UntagResource
        | Operation::UpdateItem
        | Operation::UpdateTimeToLive => answer,
    }
}

/// `text` with its ARNs of region `from` in region `to`.
fn in_region(text: &str, from: &str, to: &str) -> String {
    SERVICES.iter().fold(text.to_owned(), |text, service| {
        let arn = |region| format!("arn:aws:{service}:{region}:");
        text.replace(&arn(from), &arn(to))
    })
}

fn changed(answer: Answer, change: impl FnOnce(&mut Value)) -> Answer {
    let Ok(mut body) = serde_json::from_slice(&answer.body) else {
        return answer;
    };
    change(&mut body);
    Answer {
        body: body.to_string().into_bytes(),
        ..answer
    }
}

fn each_text(value: &mut Value, change: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = change(text),
        Value::Array(values) => values.iter_mut().for_each(|it| each_text(it, change)),
        Value::Object(members) => members.values_mut().for_each(|it| each_text(it, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
