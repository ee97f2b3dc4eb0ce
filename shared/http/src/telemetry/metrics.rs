//! CloudWatch's embedded metric format: a line that says which of its own members are metrics.
//!
//! Every combination of a metric and its dimensions is billed by the hours in which it gets data, and every byte of a line
//! when it is taken in, so both are few: a member is a metric only if an alarm or the dashboard reads it, a tenant is never a
//! dimension, and a count of something rare is left out where it is zero. All other members are there for queries.

use serde::Serialize;

use super::{BATCH, REQUEST};

const NAMESPACE: &str = "Parlance";

/// What the lines of one target measure.
#[derive(Debug)]
pub(super) struct Measures {
    target: &'static str,
    /// Members by which a metric is told apart.
    dimensions: &'static [&'static str],
    /// Members that are metrics, with their units if they are not counts: that needs no saying.
    metrics: &'static [(&'static str, Option<&'static str>)],
}

const MILLISECONDS: Option<&str> = Some("Milliseconds");

const MEASURES: [Measures; 2] = [
    Measures {
        target: REQUEST,
        dimensions: &["function", "surface"],
        metrics: &[
            ("server_errors", None),
            ("upstream_errors", None),
            ("late_errors", None),
        ],
    },
    Measures {
        target: BATCH,
        dimensions: &["function"],
        metrics: &[
            ("sent", None),
            ("delivered", None),
            ("retried", None),
            ("dead", None),
            ("put_aside", None),
            ("failed", None),
            ("oldest_job_ms", MILLISECONDS),
        ],
    },
];

impl Measures {
    /// What lines of `target` measure; `None` for those that measure nothing.
    pub(super) fn of(target: &str) -> Option<&'static Self> {
        MEASURES.iter().find(|measures| measures.target == target)
    }

    /// The bit of metric `name`; 0 for another member.
    pub(super) fn bit(&self, name: &str) -> u32 {
        let position = self.metrics.iter().position(|(metric, _)| *metric == name);
        position.map_or(0, |position| 1 << position)
    }

    /// The member `_aws` of a line written `millis` after 1970, which holds the metrics of `bits`.
    pub(super) fn directive(&self, bits: u32, millis: i64) -> impl Serialize {
        let metrics = self.metrics.iter().enumerate();
        let present = metrics.filter(|(position, _)| bits & (1 << position) != 0);
        Directive {
            timestamp: millis,
            cloud_watch_metrics: [Set {
                namespace: NAMESPACE,
                dimensions: [self.dimensions],
                metrics: present
                    .map(|(_, &(name, unit))| Metric { name, unit })
                    .collect(),
            }],
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    timestamp: i64,
    cloud_watch_metrics: [Set; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Set {
    namespace: &'static str,
    dimensions: [&'static [&'static str]; 1],
    metrics: Vec<Metric>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
}
