//! The records of a stream as Lambda shows them to a function.

use std::collections::HashMap;
use std::time::SystemTime;

use aws_lambda_events::event::dynamodb::{EventRecord, StreamViewType, UserIdentity};
use aws_sdk_dynamodbstreams::types::{AttributeValue, Record};
use aws_smithy_types::Blob;

/// Shows `record`, which came from the stream `stream_arn`.
pub(super) fn shown(record: &Record, stream_arn: &str) -> EventRecord {
    let mut shown = EventRecord::default();
    shown.aws_region = record.aws_region.clone().unwrap_or_default();
    shown.event_id = record.event_id.clone().unwrap_or_default();
    shown.event_name = record
        .event_name()
        .map(|name| name.as_str().to_owned())
        .unwrap_or_default();
    shown.event_source = record.event_source().map(ToOwned::to_owned);
    shown.event_version = record.event_version().map(ToOwned::to_owned);
    shown.event_source_arn = Some(stream_arn.to_owned());
    shown.user_identity = record.user_identity().map(|who| {
        let mut identity = UserIdentity::default();
        identity.type_ = who.r#type.clone().unwrap_or_default();
        identity.principal_id = who.principal_id.clone().unwrap_or_default();
        identity
    });
    if let Some(change) = record.dynamodb() {
        let made = change.approximate_creation_date_time().copied();
        if let Some(made) = made.and_then(|made| SystemTime::try_from(made).ok()) {
            shown.change.approximate_creation_date_time = made.into();
        }
        shown.change.keys = item(change.keys());
        shown.change.new_image = item(change.new_image());
        shown.change.old_image = item(change.old_image());
        shown.change.sequence_number = change.sequence_number().map(ToOwned::to_owned);
        shown.change.size_bytes = change.size_bytes().unwrap_or_default();
        shown.change.stream_view_type = change.stream_view_type().map(view_type);
    }
    shown
}

fn view_type(view: &aws_sdk_dynamodbstreams::types::StreamViewType) -> StreamViewType {
    use aws_sdk_dynamodbstreams::types::StreamViewType as View;
    match view {
        View::NewImage => StreamViewType::NewImage,
        View::OldImage => StreamViewType::OldImage,
        View::NewAndOldImages => StreamViewType::NewAndOldImages,
        _ => StreamViewType::KeysOnly,
    }
}

fn item(attributes: Option<&HashMap<String, AttributeValue>>) -> serde_dynamo::Item {
    attributes.map(map).unwrap_or_default().into()
}

fn map(
    attributes: &HashMap<String, AttributeValue>,
) -> HashMap<String, serde_dynamo::AttributeValue> {
    attributes
        .iter()
        .map(|(name, value)| (name.clone(), value_of(value)))
        .collect()
}

fn value_of(value: &AttributeValue) -> serde_dynamo::AttributeValue {
    use serde_dynamo::AttributeValue as Shown;
    match value {
        AttributeValue::S(text) => Shown::S(text.clone()),
        AttributeValue::N(number) => Shown::N(number.clone()),
        AttributeValue::B(bytes) => Shown::B(bytes.as_ref().to_vec()),
        AttributeValue::Bool(truth) => Shown::Bool(*truth),
        AttributeValue::M(attributes) => Shown::M(map(attributes)),
        AttributeValue::L(values) => Shown::L(values.iter().map(value_of).collect()),
        AttributeValue::Ss(texts) => Shown::Ss(texts.clone()),
        AttributeValue::Ns(numbers) => Shown::Ns(numbers.clone()),
        AttributeValue::Bs(all) => Shown::Bs(
            all.iter()
                .map(|bytes: &Blob| bytes.as_ref().to_vec())
                .collect(),
        ),
        // `Null`, and kinds that do not exist yet.
        _ => Shown::Null(true),
    }
}
