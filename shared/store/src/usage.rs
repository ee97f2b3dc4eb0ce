//! What DynamoDB calls cost, for the request or the batch that made them.
//!
//! A client that is [`metered`] counts its calls for the task they run in, as long as it is inside
//! [`Usage::of`]; requests that are served at the same time are counted apart. Outside of it nothing is
//! counted and nothing is asked for.
//!
//! Units are those DynamoDB reports. It charges a write whose condition failed as well, and reports nothing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata,
    operation::{
        batch_get_item::{BatchGetItemError, BatchGetItemInput, BatchGetItemOutput},
        batch_write_item::{BatchWriteItemError, BatchWriteItemInput, BatchWriteItemOutput},
        delete_item::{DeleteItemError, DeleteItemInput, DeleteItemOutput},
        get_item::{GetItemError, GetItemInput, GetItemOutput},
        put_item::{PutItemError, PutItemInput, PutItemOutput},
        query::{QueryError, QueryInput, QueryOutput},
        transact_write_items::{
            TransactWriteItemsError, TransactWriteItemsInput, TransactWriteItemsOutput,
        },
        update_item::{UpdateItemError, UpdateItemInput, UpdateItemOutput},
    },
    types::{ConsumedCapacity, ReturnConsumedCapacity::Total},
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{
                BeforeSerializationInterceptorContextMut, Error, FinalizerInterceptorContextRef,
                Input, Output,
            },
        },
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;

tokio::task_local! {
    /// Whose calls these are.
    static CURRENT: Arc<Usage>;
}

/// Codes with which DynamoDB says that it was asked too much.
const THROTTLES: [&str; 4] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "ThrottlingError",
    "RequestLimitExceeded",
];

/// What calls have cost so far.
#[derive(Debug, Default)]
pub struct Usage {
    calls: AtomicU64,
    attempts: AtomicU64,
    throttles: AtomicU64,
    /// Whether units were asked for.
    asked: AtomicBool,
    /// Units come in halves.
    half_reads: AtomicU64,
    half_writes: AtomicU64,
}

impl Usage {
    /// Who counts the calls that are made here, if somebody does.
    pub fn here() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Does `work`, and counts what it calls.
    pub fn of<F: Future>(self: &Arc<Self>, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(Arc::clone(self), work)
    }

    /// Calls, however often each was tried.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Tries beyond the first of each call.
    pub fn retries(&self) -> u64 {
        self.attempts.load(Relaxed).saturating_sub(self.calls())
    }

    /// Tries that DynamoDB throttled.
    pub fn throttles(&self) -> u64 {
        self.throttles.load(Relaxed)
    }

    /// Read units; `None` if the calls were made without asking for them.
    pub fn read_units(&self) -> Option<f64> {
        self.units(&self.half_reads)
    }

    /// Write units; `None` if the calls were made without asking for them.
    pub fn write_units(&self) -> Option<f64> {
        self.units(&self.half_writes)
    }

    #[expect(clippy::cast_precision_loss, reason = "no request uses 2^52 units")]
    fn units(&self, halves: &AtomicU64) -> Option<f64> {
        let known = self.calls() == 0 || self.asked.load(Relaxed);
        known.then(|| halves.load(Relaxed) as f64 / 2.0)
    }
}

/// `client`, whose calls are counted. Units are asked for only with `units`: the embedded store answers
/// sooner without.
pub fn metered(client: &Client, units: bool) -> Client {
    let config = client.config().to_builder();
    Client::from_conf(config.interceptor(Meter { units }).build())
}

#[derive(Debug)]
struct Meter {
    units: bool,
}

/// In which direction an operation uses units.
#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
}

/// The operations of the stores. One that is missing here counts as a call without units; a test finds it.
macro_rules! operations {
    ($($input:ident, $output:ident, $error:ident, $direction:ident;)*) => {
        fn ask_for_units(input: &mut Input) {
            $(if let Some(input) = input.downcast_mut::<$input>() {
                input.return_consumed_capacity = Some(Total);
                return;
            })*
        }

        fn consumed(output: &Output) -> (&[ConsumedCapacity], Direction) {
            $(if let Some(output) = output.downcast_ref::<$output>() {
                return (output.reported(), Direction::$direction);
            })*
            (&[], Direction::Read)
        }

        fn is_throttle(error: &Error) -> bool {
            let code = None$(.or_else(|| error.downcast_ref::<$error>()?.code()))*;
            code.is_some_and(|code: &str| THROTTLES.contains(&code))
        }
    };
}

operations! {
    GetItemInput, GetItemOutput, GetItemError, Read;
    QueryInput, QueryOutput, QueryError, Read;
    BatchGetItemInput, BatchGetItemOutput, BatchGetItemError, Read;
    PutItemInput, PutItemOutput, PutItemError, Write;
    UpdateItemInput, UpdateItemOutput, UpdateItemError, Write;
    DeleteItemInput, DeleteItemOutput, DeleteItemError, Write;
    BatchWriteItemInput, BatchWriteItemOutput, BatchWriteItemError, Write;
    TransactWriteItemsInput, TransactWriteItemsOutput, TransactWriteItemsError, Write;
}

/// What an answer says that it cost: of one table, or of each.
trait Reported {
    fn reported(&self) -> &[ConsumedCapacity];
}

macro_rules! reported {
    (one: $($one:ident),*; each: $($each:ident),*) => {
        $(impl Reported for $one {
            fn reported(&self) -> &[ConsumedCapacity] {
                self.consumed_capacity.as_slice()
            }
        })*
        $(impl Reported for $each {
            fn reported(&self) -> &[ConsumedCapacity] {
                self.consumed_capacity()
            }
        })*
    };
}

reported! {
    one: GetItemOutput, QueryOutput, PutItemOutput, UpdateItemOutput, DeleteItemOutput;
    each: BatchGetItemOutput, BatchWriteItemOutput, TransactWriteItemsOutput
}

impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "Meter"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // An error means that nobody counts.
        let _ = CURRENT.try_with(|usage| {
            usage.calls.fetch_add(1, Relaxed);
            if self.units {
                usage.asked.store(true, Relaxed);
                ask_for_units(context.input_mut());
            }
        });
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let _ = CURRENT.try_with(|usage| usage.count(context));
        Ok(())
    }
}

impl Usage {
    fn count(&self, attempt: &FinalizerInterceptorContextRef<'_>) {
        self.attempts.fetch_add(1, Relaxed);
        match attempt.output_or_error() {
            Some(Ok(output)) => {
                let (consumed, direction) = consumed(output);
                let halves = match direction {
                    Direction::Read => &self.half_reads,
                    Direction::Write => &self.half_writes,
                };
                for table in consumed {
                    halves.fetch_add(half_units(table), Relaxed);
                }
            }
            Some(Err(error)) if error.as_operation_error().is_some_and(is_throttle) => {
                self.throttles.fetch_add(1, Relaxed);
            }
            Some(Err(_)) | None => {}
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "units are few, and not negative"
)]
fn half_units(table: &ConsumedCapacity) -> u64 {
    (table.capacity_units.unwrap_or_default() * 2.0).round() as u64
}
