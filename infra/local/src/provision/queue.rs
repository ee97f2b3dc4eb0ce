//! One queue: its attributes and its redrive policy.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_sqs::Client as Sqs;
use aws_sdk_sqs::types::QueueAttributeName;

use super::said;
use crate::template::{Queue, Redrive};

/// Makes `queue` usable; its URL.
pub(super) async fn provision(
    queue: &Queue,
    urls: &BTreeMap<String, String>,
    sqs: &Sqs,
) -> Result<String, String> {
    let mut wanted: HashMap<QueueAttributeName, String> = HashMap::new();
    for (name, value) in &queue.attributes {
        wanted.insert(name.as_str().into(), value.clone());
    }
    if let Some(redrive) = &queue.redrive {
        wanted.insert(
            QueueAttributeName::RedrivePolicy,
            policy(redrive, urls, sqs).await?,
        );
    }
    match sqs.get_queue_url().queue_name(&queue.name).send().await {
        Ok(answer) => {
            let url = answer.queue_url.ok_or("it has no URL")?;
            adjust_queue(&url, wanted, sqs).await?;
            Ok(url)
        }
        Err(error) if error.as_service_error().is_some_and(is_missing) => {
            let created = sqs
                .create_queue()
                .queue_name(&queue.name)
                .set_attributes(Some(wanted))
                .send()
                .await
                .map_err(said)?;
            created.queue_url.ok_or_else(|| "it has no URL".to_owned())
        }
        Err(error) => Err(said(error)),
    }
}

fn is_missing(fault: &aws_sdk_sqs::operation::get_queue_url::GetQueueUrlError) -> bool {
    fault.is_queue_does_not_exist()
}

/// Sets those attributes of an existing queue that differ from the template's.
async fn adjust_queue(
    url: &str,
    mut wanted: HashMap<QueueAttributeName, String>,
    sqs: &Sqs,
) -> Result<(), String> {
    let found = sqs
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::All)
        .send()
        .await
        .map_err(said)?
        .attributes
        .unwrap_or_default();
    // Whether a queue is FIFO is part of its name and cannot be set.
    wanted.remove(&QueueAttributeName::FifoQueue);
    wanted.retain(|name, value| {
        found
            .get(name)
            .is_none_or(|found| !means_the_same(found, value))
    });
    if wanted.is_empty() {
        return Ok(());
    }
    let answer = sqs
        .set_queue_attributes()
        .queue_url(url)
        .set_attributes(Some(wanted));
    answer.send().await.map(drop).map_err(said)
}

/// Policies are JSON, in which spaces, order and quotes around numbers mean nothing.
fn means_the_same(one: &str, other: &str) -> bool {
    let normal = |text: &str| {
        let parsed: Option<BTreeMap<String, serde_json::Value>> = serde_json::from_str(text).ok();
        parsed.map(|map| {
            let unquoted = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                value => value.to_string(),
            };
            map.into_iter()
                .map(|(key, value)| (key, unquoted(value)))
                .collect::<Vec<_>>()
        })
    };
    one == other || normal(one).is_some_and(|one| Some(one) == normal(other))
}

async fn policy(
    redrive: &Redrive,
    urls: &BTreeMap<String, String>,
    sqs: &Sqs,
) -> Result<String, String> {
    let url = urls.get(&redrive.dead_letters).ok_or_else(|| {
        format!(
            "its dead-letter queue {} is not defined",
            redrive.dead_letters
        )
    })?;
    let arn = sqs
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::QueueArn)
        .send()
        .await
        .map_err(said)?
        .attributes
        .and_then(|mut attributes| attributes.remove(&QueueAttributeName::QueueArn))
        .ok_or_else(|| format!("its dead-letter queue {} has no ARN", redrive.dead_letters))?;
    let policy = serde_json::json!({
        "deadLetterTargetArn": arn,
        "maxReceiveCount": redrive.max_receives,
    });
    Ok(policy.to_string())
}
