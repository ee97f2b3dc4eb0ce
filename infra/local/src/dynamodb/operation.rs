//! The operations the embedded store serves, named as in `X-Amz-Target`.

/// Declares the operations once: the variants and how they are read from a target.
macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// One operation of DynamoDB or DynamoDB Streams.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Operation {
            $($name,)*
        }

        impl Operation {
            /// Reads `DynamoDB_20120810.PutItem` or `DynamoDBStreams_20120810.GetRecords`.
            pub(super) fn from_target(target: &str) -> Option<Self> {
                let (service, name) = target.split_once('.')?;
                if !matches!(service, "DynamoDB_20120810" | "DynamoDBStreams_20120810") {
                    return None;
                }
                match name {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

operations!(
    BatchExecuteStatement,
    BatchGetItem,
    BatchWriteItem,
    CreateTable,
    DeleteItem,
    DeleteTable,
    DescribeStream,
    DescribeTable,
    DescribeTimeToLive,
    ExecuteStatement,
    ExecuteTransaction,
    GetItem,
    GetRecords,
    GetShardIterator,
    ListStreams,
    ListTables,
    ListTagsOfResource,
    PutItem,
    Query,
    Scan,
    TagResource,
    TransactGetItems,
    TransactWriteItems,
    UntagResource,
    UpdateItem,
    UpdateTable,
    UpdateTimeToLive,
);

#[cfg(test)]
mod tests {
    use super::Operation;

    #[test]
    fn a_target_names_its_operation_under_the_two_services_only() {
        let read = Operation::from_target;
        assert_eq!(read("DynamoDB_20120810.PutItem"), Some(Operation::PutItem));
        assert_eq!(
            read("DynamoDBStreams_20120810.GetRecords"),
            Some(Operation::GetRecords)
        );
        assert_eq!(read("AmazonSQS.PutItem"), None);
        assert_eq!(read("DynamoDB_20120810.Nonsense"), None);
        assert_eq!(read("PutItem"), None);
    }
}
