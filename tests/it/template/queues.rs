//! What is kept: queues and tables.

use yaml_serde::Value;

use super::{
    TEMPLATE, binary_of, events, function, functions,
    grants::{Grant, granted},
    resources, tagged,
};

#[test]
fn every_queue_has_a_dead_letter_queue_or_is_one() {
    let queues = resources(TEMPLATE, "AWS::SQS::Queue");
    let dead_letters = |queue: &Value| {
        let target = &queue["Properties"]["RedrivePolicy"]["deadLetterTargetArn"];
        Some(tagged(target, "GetAtt")?.strip_suffix(".Arn")?.to_owned())
    };
    // Where somebody puts aside what cannot be done.
    let mut aside: Vec<_> = queues
        .iter()
        .filter_map(|(_, it)| dead_letters(it))
        .collect();
    for (_, function) in functions() {
        let target = &function["Properties"]["EventInvokeConfig"]["DestinationConfig"];
        let target = tagged(&target["OnFailure"]["Destination"], "GetAtt");
        aside.extend(target.map(|it| it.strip_suffix(".Arn").unwrap().to_owned()));
    }
    assert!(!queues.is_empty());
    for (name, queue) in queues {
        let served = dead_letters(&queue).is_some() || aside.contains(&name);
        assert!(served, "{name} has no dead-letter queue");
    }
}

/// A schedule does not wait for an answer.
#[test]
fn a_run_that_fails_is_put_aside_and_not_repeated() {
    for (name, function) in functions() {
        let schedules = events(&function, "ScheduleV2");
        let invoked = &function["Properties"]["EventInvokeConfig"];
        assert_eq!(schedules.is_empty(), invoked.is_null(), "{name}");
        for schedule in schedules {
            let aside = tagged(&schedule["DeadLetterConfig"]["Arn"], "GetAtt").unwrap();
            let failed = &invoked["DestinationConfig"]["OnFailure"]["Destination"];
            assert_eq!(tagged(failed, "GetAtt"), Some(aside), "{name}");
            assert_eq!(invoked["MaximumRetryAttempts"], 0, "{name}");
            assert_eq!(schedule["RetryPolicy"]["MaximumRetryAttempts"], 0, "{name}");
            // Names are the account's: a second stack would fail.
            assert_eq!(schedule["OmitName"], true, "{name}");
            let queue = aside.strip_suffix(".Arn").unwrap();
            let grant = Grant::new("sqs:SendMessage", queue);
            assert!(granted(binary_of(&function)).contains(&grant), "{name}");
        }
    }
}

#[test]
fn what_a_stream_gives_up_is_kept_whole_in_a_private_bucket_and_told_to_the_poison_queue() {
    let buckets = resources(TEMPLATE, "AWS::S3::Bucket");
    let rules = resources(TEMPLATE, "AWS::Events::Rule");
    for (_, function) in functions() {
        for event in events(&function, "DynamoDB") {
            // SQS would be told the records' numbers alone, which a stream forgets in an hour.
            let on_failure = &event["DestinationConfig"]["OnFailure"];
            assert_eq!(on_failure["Type"], "S3");
            let bucket = tagged(&on_failure["Destination"], "GetAtt").unwrap();
            let bucket = bucket.strip_suffix(".Arn").unwrap();
            let (_, found) = buckets.iter().find(|(name, _)| name == bucket).unwrap();
            let properties = &found["Properties"];
            let public = &properties["PublicAccessBlockConfiguration"];
            for block in [
                "BlockPublicAcls",
                "BlockPublicPolicy",
                "IgnorePublicAcls",
                "RestrictPublicBuckets",
            ] {
                assert_eq!(public[block], true, "{block}");
            }
            let told = rules.iter().any(|(_, rule)| {
                let pattern = &rule["Properties"]["EventPattern"]["detail"]["bucket"]["name"];
                let target = &rule["Properties"]["Targets"][0]["Arn"];
                tagged(&pattern[0], "Ref") == Some(bucket)
                    && tagged(target, "GetAtt") == Some("Poison.Arn")
            });
            assert!(told, "nobody hears of what comes to {bucket}");
        }
    }
}

#[test]
fn a_message_is_kept_from_others_for_six_times_what_its_function_may_take() {
    let queues = resources(TEMPLATE, "AWS::SQS::Queue");
    for (name, function) in functions() {
        for event in events(&function, "SQS") {
            let source = tagged(&event["Queue"], "GetAtt").unwrap();
            let source = source.strip_suffix(".Arn").unwrap();
            let (_, queue) = queues.iter().find(|(name, _)| name == source).unwrap();
            let hidden = queue["Properties"]["VisibilityTimeout"].as_u64();
            let may_take = function["Properties"]["Timeout"].as_u64().unwrap();
            assert!(hidden.unwrap_or(30) >= 6 * may_take, "{name} from {source}");
        }
    }
}

#[test]
fn no_more_is_received_from_a_queue_than_may_run_at_once() {
    for (name, function) in functions() {
        for event in events(&function, "SQS") {
            let most = &event["ScalingConfig"]["MaximumConcurrency"];
            let capped = &function["Properties"]["ReservedConcurrentExecutions"];
            let fits = match capped {
                Value::Tagged(capped) => capped.tag == "If" && capped.value[1] == *most,
                _ => tagged(most, "Ref") == Some("QueueConcurrency"),
            };
            assert!(fits, "{name}");
        }
    }
}

/// Lambda ends a chain of calls after 16 of them: <https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html>.
#[test]
fn a_function_that_feeds_itself_may_do_so_for_as_long_as_it_takes() {
    for (name, function) in functions() {
        let granted = granted(binary_of(&function));
        let feeds_itself = events(&function, "SQS").iter().any(|event| {
            let queue = tagged(&event["Queue"], "GetAtt").unwrap();
            let queue = queue.strip_suffix(".Arn").unwrap();
            granted.contains(&Grant::new("sqs:SendMessage", queue))
        });
        let allowed = function["Properties"]["RecursiveLoop"] == "Allow";
        assert_eq!(feeds_itself, allowed, "{name}");
        let known = ["DeliverFunction", "LiveFunction", "SweepFunction"];
        assert_eq!(feeds_itself, known.contains(&name.as_str()), "{name}");
    }
}

fn yaml(text: &str) -> Value {
    yaml_serde::from_str(text).unwrap()
}

/// The parameter that names a customer's key, where a property is that or nothing.
fn key_of_choice(property: &Value) -> Option<&str> {
    match property {
        Value::Tagged(choice) if choice.tag == "If" && choice.value[0] == "CustomerKey" => {
            tagged(&choice.value[1], "Ref")
        }
        _ => None,
    }
}

#[test]
fn every_log_group_is_encrypted_by_the_key_of_choice() {
    for (name, group) in resources(TEMPLATE, "AWS::Logs::LogGroup") {
        let key = key_of_choice(&group["Properties"]["KmsKeyId"]);
        assert_eq!(key, Some("EncryptionKey"), "{name}");
    }
}

/// The tables stay, and are worth nothing without the keys that open them and the operator's key. What a first deployment has
/// made that fails has nothing in it, and would be paid for.
#[test]
fn queues_buckets_secrets_and_keys_outlive_the_stack_unless_it_was_never_made() {
    for kind in [
        "AWS::SQS::Queue",
        "AWS::S3::Bucket",
        "AWS::SecretsManager::Secret",
        "AWS::KMS::Key",
    ] {
        let found = resources(TEMPLATE, kind);
        assert!(!found.is_empty(), "{kind}");
        for (name, kept) in found {
            assert_eq!(kept["DeletionPolicy"], "RetainExceptOnCreate", "{name}");
            assert_eq!(kept["UpdateReplacePolicy"], "Retain", "{name}");
        }
    }
}

/// The letters of a queue keep the time at which they were first sent (AWS, `MessageRetentionPeriod`).
#[test]
fn what_sqs_puts_aside_is_there_for_days_after_the_alarm_on_its_age() {
    const DAY: u64 = 24 * 3_600;
    let (_, alarm) = resources(super::OPERATIONS, "AWS::CloudWatch::Alarm")
        .into_iter()
        .find(|(name, _)| name == "LettersAge")
        .unwrap();
    let alarm = alarm["Properties"]["Threshold"].as_u64().unwrap();
    let mut watched = 0;
    for (name, queue) in resources(TEMPLATE, "AWS::SQS::Queue") {
        let properties = &queue["Properties"];
        let redrive = &properties["RedrivePolicy"];
        // A delivery's job is replaced by a copy before it is old.
        if redrive.is_null() || name == "DeliveryQueue" {
            continue;
        }
        watched += 1;
        let hidden = properties["VisibilityTimeout"].as_u64().unwrap();
        let wait = if name == "FanoutQueue" {
            hidden.max(u64::from(live::LONGEST_WAIT))
        } else {
            hidden
        };
        let tried = redrive["maxReceiveCount"].as_u64().unwrap() * wait;
        let kept = properties["MessageRetentionPeriod"].as_u64().unwrap();
        assert!(tried + alarm + 3 * DAY <= kept, "{name}: {tried} s");
        assert!(tried >= 2 * DAY, "{name}: an outage of a day loses it");
    }
    assert_eq!(watched, 2);
}

#[test]
fn a_rule_may_send_to_the_queue_that_it_tells_and_nobody_else_may() {
    let policies = resources(TEMPLATE, "AWS::SQS::QueuePolicy");
    let mut allowed = Vec::new();
    for (_, policy) in policies {
        let properties = &policy["Properties"];
        let queue = tagged(&properties["Queues"][0], "Ref").unwrap();
        for statement in super::each(&properties["PolicyDocument"]["Statement"]) {
            assert_eq!(statement["Effect"], "Allow");
            assert_eq!(statement["Action"], "sqs:SendMessage");
            assert_eq!(
                statement["Principal"],
                yaml("{ Service: events.amazonaws.com }")
            );
            let on = tagged(&statement["Resource"], "GetAtt").unwrap();
            assert_eq!(on, format!("{queue}.Arn"));
            let rule = &statement["Condition"]["ArnEquals"]["aws:SourceArn"];
            let rule = tagged(rule, "GetAtt").and_then(|it| it.strip_suffix(".Arn"));
            allowed.push((rule.unwrap().to_owned(), queue.to_owned()));
        }
    }
    let mut told = Vec::new();
    for (rule, it) in resources(TEMPLATE, "AWS::Events::Rule") {
        for target in super::each(&it["Properties"]["Targets"]) {
            let queue = tagged(&target["Arn"], "GetAtt").and_then(|it| it.strip_suffix(".Arn"));
            told.push((rule.clone(), queue.unwrap().to_owned()));
        }
    }
    assert!(!told.is_empty());
    assert_eq!(allowed, told);
}

#[test]
fn no_bucket_is_used_without_tls() {
    let policies = resources(TEMPLATE, "AWS::S3::BucketPolicy");
    for (bucket, _) in resources(TEMPLATE, "AWS::S3::Bucket") {
        let of_it = policies
            .iter()
            .find(|(_, it)| tagged(&it["Properties"]["Bucket"], "Ref") == Some(&bucket));
        let (_, policy) = of_it.unwrap_or_else(|| panic!("{bucket} has no policy"));
        let statement = &policy["Properties"]["PolicyDocument"]["Statement"][0];
        assert_eq!(statement["Effect"], "Deny");
        assert_eq!(statement["Principal"], "*");
        assert_eq!(statement["Action"], "s3:*");
        assert_eq!(
            statement["Condition"],
            yaml("{ Bool: { aws:SecureTransport: false } }")
        );
        let on = &statement["Resource"];
        assert_eq!(tagged(&on[0], "GetAtt"), Some(&*format!("{bucket}.Arn")));
        let objects = format!("${{{bucket}.Arn}}/*");
        assert_eq!(tagged(&on[1], "Sub"), Some(&*objects));
    }
}

#[test]
fn every_table_and_index_can_be_bounded() {
    let bounded = |of: &Value| {
        let Value::Tagged(choice) = &of["OnDemandThroughput"] else {
            return false;
        };
        choice.value[0] == "Bounded"
            && !choice.value[1]["MaxReadRequestUnits"].is_null()
            && !choice.value[1]["MaxWriteRequestUnits"].is_null()
    };
    for (name, table) in resources(TEMPLATE, "AWS::DynamoDB::Table") {
        let table = &table["Properties"];
        assert!(bounded(table), "{name}");
        for index in super::each(&table["GlobalSecondaryIndexes"]) {
            assert!(bounded(&index), "{name}: {index:?}");
        }
    }
}

#[test]
fn every_queue_is_encrypted_by_the_key_of_choice() {
    for (name, queue) in resources(TEMPLATE, "AWS::SQS::Queue") {
        let properties = &queue["Properties"];
        let Value::Tagged(own) = &properties["SqsManagedSseEnabled"] else {
            panic!("{name} is encrypted by SQS whatever the key");
        };
        assert_eq!(own.value, yaml("[CustomerKey, false, true]"));
        assert_eq!(
            key_of_choice(&properties["KmsMasterKeyId"]),
            Some("EncryptionKey"),
            "{name}"
        );
    }
}

#[test]
fn what_a_stream_gives_up_is_put_aside_before_the_stream_forgets_it() {
    let event = &events(&function("heads"), "DynamoDB")[0];
    assert!(event["MaximumRetryAttempts"].is_null(), "an outage passes");
    let age = event["MaximumRecordAgeInSeconds"].as_u64().unwrap();
    assert!((3_600..24 * 3_600).contains(&age), "{age}");
    assert_eq!(event["FunctionResponseTypes"][0], "ReportBatchItemFailures");
    assert_eq!(event["BisectBatchOnFunctionError"], true);
}

#[test]
fn every_table_costs_what_it_is_used_and_is_encrypted_by_the_key_of_choice() {
    for (name, table) in resources(TEMPLATE, "AWS::DynamoDB::Table") {
        let properties = &table["Properties"];
        assert_eq!(properties["BillingMode"], "PAY_PER_REQUEST", "{name}");
        let key = &properties["SSESpecification"]["KMSMasterKeyId"];
        let yaml_serde::Value::Tagged(key) = key else {
            panic!("{name} has no choice of keys");
        };
        assert_eq!(key.value[0], "CustomerKey", "{name}");
    }
}

/// Only guards may be lost: markers and buckets.
#[test]
fn every_table_but_guards_is_backed_up_protected_and_outlives_the_stack() {
    for (name, table) in resources(TEMPLATE, "AWS::DynamoDB::Table") {
        let properties = &table["Properties"];
        let kept = name != "Guards";
        let backups = &properties["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"];
        assert_eq!(backups.as_bool().unwrap_or(false), kept, "{name}");
        let protection = tagged(&properties["DeletionProtectionEnabled"], "Ref");
        assert_eq!(protection, kept.then_some("DeletionProtection"), "{name}");
        assert_eq!(table["DeletionPolicy"] == "Retain", kept, "{name}");
        assert_eq!(table["UpdateReplacePolicy"] == "Retain", kept, "{name}");
    }
}
