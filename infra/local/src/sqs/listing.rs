//! Lists of queues, in pages. A page's token is the name of its last queue.

use super::database::Turn;
use super::fault::Fault;
use super::name::QueueName;
use super::queue::Queue;
use rusqlite::params;
use serde::{Deserialize, Serialize};

const LARGEST_PAGE: usize = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListQueues {
    queue_name_prefix: String,
    max_results: Option<usize>,
    next_token: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Queues {
    queue_urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(super) fn queues(turn: &mut Turn<'_>, request: &ListQueues) -> Result<Queues, Fault> {
    let names = turn
        .db
        .prepare_cached(
            "SELECT name FROM queues WHERE name > ?1 AND substr(name, 1, length(?2)) = ?2
             ORDER BY name",
        )?
        .query_map(
            params![request.next_token, request.queue_name_prefix],
            |row| row.get(0),
        )?
        .collect::<Result<Vec<QueueName>, _>>()?;
    let (queue_urls, next_token) = page(&names, request.max_results)?;
    Ok(Queues {
        queue_urls,
        next_token,
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListDeadLetterSourceQueues {
    queue_url: QueueName,
    max_results: Option<usize>,
    next_token: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SourceQueues {
    /// AWS spells this one in lower case.
    #[serde(rename = "queueUrls")]
    queue_urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(super) fn source_queues(
    turn: &mut Turn<'_>,
    request: &ListDeadLetterSourceQueues,
) -> Result<SourceQueues, Fault> {
    let queue = Queue::load(turn.db, &request.queue_url)?;
    let names = sources_of(turn, &queue.name, &request.next_token)?;
    let (queue_urls, next_token) = page(&names, request.max_results)?;
    Ok(SourceQueues {
        queue_urls,
        next_token,
    })
}

/// The queues after `after` whose dead letters go to `dead_letters`.
pub(super) fn sources_of(
    turn: &Turn<'_>,
    dead_letters: &QueueName,
    after: &str,
) -> Result<Vec<QueueName>, Fault> {
    let names = turn
        .db
        .prepare_cached(
            "SELECT name FROM queues
             WHERE name > ?1
               AND json_extract(attributes, '$.RedrivePolicy') IS NOT NULL
               AND json_extract(json_extract(attributes, '$.RedrivePolicy'),
                                '$.deadLetterTargetArn') = ?2
             ORDER BY name",
        )?
        .query_map(params![after, dead_letters.arn()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(names)
}

/// The URLs of the first `most` of `names`, and the token if there are more.
fn page(names: &[QueueName], most: Option<usize>) -> Result<(Vec<String>, Option<String>), Fault> {
    let most = most.unwrap_or(LARGEST_PAGE);
    if !(1..=LARGEST_PAGE).contains(&most) {
        return Err(Fault::invalid("MaxResults must be between 1 and 1000"));
    }
    let shown = names.get(..most).unwrap_or(names);
    let token = if shown.len() < names.len() {
        shown.last()
    } else {
        None
    };
    Ok((
        shown.iter().map(QueueName::url).collect(),
        token.map(|name| name.as_str().to_owned()),
    ))
}
