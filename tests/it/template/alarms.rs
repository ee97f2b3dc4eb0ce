//! Who watches: everything that may fail has an alarm, every alarm tells somebody, and says what to do.

use std::collections::{BTreeMap, BTreeSet};

use yaml_serde::Value;

use super::{OPERATIONS, TEMPLATE, events, functions, resources, tagged};

/// Where members of lines are metrics.
const METRICS: &str = include_str!("../../../shared/http/src/telemetry/metrics.rs");
const RUNBOOK: &str = include_str!("../../../docs/runbook.md");

fn alarms() -> Vec<(String, Value)> {
    resources(OPERATIONS, "AWS::CloudWatch::Alarm")
        .into_iter()
        .map(|(name, alarm)| (name, alarm["Properties"].clone()))
        .collect()
}

/// What is handed to the nested template: parameter to the resource that it refers to.
fn handed_over() -> BTreeMap<String, String> {
    let stacks = resources(TEMPLATE, "AWS::CloudFormation::Stack");
    let mut stacks = stacks.into_iter();
    let (_, nested) = stacks.find(|(name, _)| name == "Operations").unwrap();
    let parameters = nested["Properties"]["Parameters"].as_mapping().unwrap();
    parameters
        .iter()
        .map(|(name, value)| {
            let referred = tagged(value, "Ref").or_else(|| tagged(value, "GetAtt"));
            let referred = referred.unwrap().split('.').next().unwrap();
            (name.as_str().unwrap().to_owned(), referred.to_owned())
        })
        .collect()
}

/// The resources that have an alarm on `metric`.
fn watched(metric: &str) -> BTreeSet<String> {
    let handed_over = handed_over();
    let mut watched = BTreeSet::new();
    for (_, alarm) in alarms() {
        if alarm["MetricName"] == metric {
            let dimension = tagged(&alarm["Dimensions"][0]["Value"], "Ref").unwrap();
            watched.insert(handed_over[dimension].clone());
        }
        for part in super::each(&alarm["Metrics"]) {
            let expression = tagged(&part["Expression"], "Sub").unwrap_or_default();
            if expression.contains(&format!("SUM({metric})")) {
                let (_, parameter) = expression.split_once("= '${").unwrap();
                let parameter = parameter.strip_suffix("}'").unwrap();
                watched.insert(handed_over[parameter].clone());
            }
            let metric_of = &part["MetricStat"]["Metric"];
            if metric_of["MetricName"] == metric {
                let dimension = tagged(&metric_of["Dimensions"][0]["Value"], "Ref").unwrap();
                watched.insert(handed_over[dimension].clone());
            }
        }
    }
    watched
}

fn names(kind: &str) -> BTreeSet<String> {
    let resources = resources(TEMPLATE, kind).into_iter();
    resources.map(|(name, _)| name).collect()
}

#[test]
fn every_function_is_watched_for_crashes_and_throttles() {
    let functions = names("AWS::Serverless::Function");
    assert_eq!(watched("Errors"), functions);
    // API Gateway lets no more come to the first four than they may run; a run of the last one that cannot start is a failed one.
    let bounded = ["Admin", "Edge", "Health", "Keys", "Reconcile"];
    let bounded = bounded.map(|name| format!("{name}Function"));
    let others = &functions - &BTreeSet::from(bounded);
    assert_eq!(watched("Throttles"), others);
}

#[test]
fn every_table_is_watched_for_throttles_and_faults() {
    let tables = names("AWS::DynamoDB::Table");
    assert_eq!(watched("ThrottledRequests"), tables);
    assert_eq!(watched("SystemErrors"), tables);
}

#[test]
fn every_queue_is_watched_for_the_age_of_its_oldest_message() {
    let queues = names("AWS::SQS::Queue");
    assert_eq!(watched("ApproximateAgeOfOldestMessage"), queues);
}

/// Those from which nothing goes on to another queue.
#[test]
fn every_dead_letter_queue_is_watched_for_letters() {
    let queues = resources(TEMPLATE, "AWS::SQS::Queue").into_iter();
    let last = queues.filter(|(_, queue)| queue["Properties"]["RedrivePolicy"].is_null());
    let last = last.map(|(name, _)| name).collect();
    assert_eq!(watched("ApproximateNumberOfMessagesVisible"), last);
}

/// Each costs as much as three alarms.
#[test]
fn every_metric_of_our_own_is_read_by_an_alarm_or_the_dashboard() {
    let lines = METRICS.lines().map(str::trim);
    let names: Vec<_> = lines
        .filter_map(|line| line.strip_prefix("(\"")?.split('"').next())
        .collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        let by_an_alarm = OPERATIONS.contains(&format!("MetricName: {name}\n"));
        let by_the_dashboard = OPERATIONS.contains(&format!("[\"Parlance\", \"{name}\""));
        assert!(by_an_alarm || by_the_dashboard, "{name}");
    }
}

/// More than ten metrics are too many for an alarm's expression.
#[test]
fn no_alarm_reads_more_than_it_can() {
    for (name, alarm) in alarms() {
        assert!(super::each(&alarm["Metrics"]).len() <= 11, "{name}");
        let read = super::each(&alarm["Metrics"]);
        let read = read.iter().filter(|it| !it["MetricStat"].is_null());
        assert!(read.count() <= 10, "{name}");
    }
}

/// What queues and functions of one class are watched for is one alarm, since each costs, and says the same.
#[test]
fn queues_and_functions_that_are_watched_alike_have_one_alarm() {
    let mut alarms_of = BTreeMap::<String, BTreeSet<String>>::new();
    for (name, alarm) in alarms() {
        let mut metrics = vec![alarm["MetricName"].clone()];
        for part in super::each(&alarm["Metrics"]) {
            metrics.push(part["MetricStat"]["Metric"]["MetricName"].clone());
        }
        for metric in metrics.iter().filter_map(Value::as_str) {
            let of_it = alarms_of.entry(metric.to_owned()).or_default();
            of_it.insert(name.clone());
        }
    }
    // Requests, chats and work; three kinds of letters, of which one that stands must not hide the others.
    for (metric, alarms) in alarms_of {
        assert!(alarms.len() <= 3, "{metric} {alarms:?}");
    }
}

/// What has not come yet is filled, so the newest of them says nothing (AWS, Using metric math).
#[test]
fn no_alarm_that_fills_what_is_missing_rests_on_its_newest_points() {
    let mut filling = 0;
    for (name, alarm) in alarms() {
        let parts = super::each(&alarm["Metrics"]);
        let mut expressions = parts.iter().filter_map(|part| part["Expression"].as_str());
        let is_of_ages = expressions.any(|it| it.starts_with("MAX([FILL"));
        if is_of_ages {
            filling += 1;
            let points = |of: &str| alarm[of].as_u64().unwrap();
            let (all, enough) = (points("EvaluationPeriods"), points("DatapointsToAlarm"));
            assert!(enough < all, "{name}");
        }
    }
    assert_eq!(filling, 1);
}

/// SQS leaves a message that was received three times out of the age of its queue (AWS, `ApproximateAgeOfOldestMessage`).
#[test]
fn jobs_that_fail_again_and_again_are_watched_for_wherever_they_come_from_a_queue() {
    let fed = functions().into_iter();
    let fed = fed.filter(|(_, function)| !events(function, "SQS").is_empty());
    let fed: BTreeSet<_> = fed.map(|(name, _)| name).collect();
    assert_eq!(watched("failed"), fed);
    let (_, alarm) = alarms()
        .into_iter()
        .find(|(name, _)| name == "JobsFailed")
        .unwrap();
    for part in super::each(&alarm["Metrics"]).iter().skip(1) {
        let period = part["MetricStat"]["Period"].as_u64().unwrap();
        assert!(
            period >= u64::from(live::LONGEST_WAIT),
            "a job that waits is missed"
        );
    }
}

/// What the runbook says of them.
#[test]
fn a_job_of_the_fan_out_may_wait_for_five_minutes_and_others_for_an_hour() {
    let (_, alarm) = alarms()
        .into_iter()
        .find(|(name, _)| name == "WorkAge")
        .unwrap();
    let percent = alarm["Threshold"].as_u64().unwrap();
    let expression = alarm["Metrics"][0]["Expression"].as_str().unwrap();
    let parts = expression.strip_prefix("MAX([FILL(").unwrap();
    let parts = parts.strip_suffix("])").unwrap();
    let mut most = BTreeMap::new();
    for part in parts.split(", FILL(") {
        let (queue, divisor) = part.split_once(", 0) / ").unwrap();
        most.insert(queue, percent * divisor.parse::<u64>().unwrap());
    }
    let said = BTreeMap::from([("fanout", 300), ("sweep", 3_600), ("deliveries", 3_600)]);
    assert_eq!(most, said);
}

/// The gateway's count of a failure may come before the log line that tells whose it was.
#[test]
fn one_late_count_of_a_models_failures_rings_no_alarm_of_ours() {
    let (_, alarm) = alarms()
        .into_iter()
        .find(|(name, _)| name == "ApiErrors")
        .unwrap();
    assert_eq!(
        (&alarm["EvaluationPeriods"], &alarm["DatapointsToAlarm"]),
        (&3.into(), &2.into())
    );
}

#[test]
fn whatever_puts_aside_what_it_gives_up_is_watched_for_failing_at_that() {
    let gives_up = functions().into_iter().filter(|(_, function)| {
        let streams = !events(function, "DynamoDB").is_empty();
        streams || !function["Properties"]["EventInvokeConfig"].is_null()
    });
    let gives_up: BTreeSet<_> = gives_up.map(|(name, _)| name).collect();
    assert_eq!(watched("DestinationDeliveryFailures"), gives_up);
    assert_eq!(watched("FailedInvocations"), names("AWS::Events::Rule"));
}

/// A function's lines name it as Lambda does: `stack-LiveFunction-…`.
#[test]
fn every_query_of_the_runbook_names_functions_as_their_lines_do() {
    let functions = names("AWS::Serverless::Function");
    let mut named = 0;
    for line in RUNBOOK
        .lines()
        .filter(|line| line.contains("filter function"))
    {
        let (_, pattern) = line
            .split_once("filter function like /")
            .unwrap_or_else(|| {
                panic!("{line} compares a whole name");
            });
        let (pattern, _) = pattern.split_once('/').unwrap();
        let pattern = pattern.trim_matches('-').trim_start_matches('(');
        for name in pattern.replace(")Function", "").split('|') {
            let known = functions.iter().any(|it| it.starts_with(name));
            assert!(known, "{line} names {name}");
            named += 1;
        }
    }
    assert!(named > 5, "{named}");
}

/// The grammar of Metrics Insights has `AND` alone, and no linter knows it.
#[test]
fn no_query_names_more_than_one_table() {
    let mut queries = 0;
    for (name, alarm) in alarms() {
        for part in super::each(&alarm["Metrics"]) {
            let expression = tagged(&part["Expression"], "Sub").unwrap_or_default();
            if expression.starts_with("SELECT") {
                queries += 1;
                assert_eq!(expression.matches("TableName = ").count(), 1, "{name}");
                assert!(!expression.contains(" OR "), "{name}");
            }
        }
    }
    assert_eq!(queries, 2 * names("AWS::DynamoDB::Table").len());
}

#[test]
fn every_schedule_is_watched_for_silence() {
    let scheduled = functions().into_iter();
    let scheduled = scheduled.filter(|(_, it)| !events(it, "ScheduleV2").is_empty());
    let scheduled: BTreeSet<_> = scheduled.map(|(name, _)| name).collect();
    assert_eq!(watched("Invocations"), scheduled);
}

#[test]
fn every_stream_that_is_consumed_is_watched_for_lag() {
    let consumers = functions().into_iter();
    let consumers = consumers.filter(|(_, it)| !events(it, "DynamoDB").is_empty());
    let consumers: BTreeSet<_> = consumers.map(|(name, _)| name).collect();
    assert_eq!(watched("IteratorAge"), consumers);
}

#[test]
fn the_api_is_watched_for_failures_and_latency() {
    assert_eq!(watched("5xx"), BTreeSet::from(["Api".to_owned()]));
    // A model may take its time: the functions that wait for none are watched, not the API.
    let quick = ["Acks", "Messages", "Notify", "Rooms"].map(|name| format!("{name}Function"));
    assert_eq!(watched("Duration"), BTreeSet::from(quick));
}

#[test]
fn models_that_fail_are_watched_apart_from_our_own_failures() {
    let both = ["ChatStreamFunction", "ChatsFunction"].map(str::to_owned);
    assert_eq!(watched("upstream_errors"), BTreeSet::from(both));
}

#[test]
fn streamed_answers_are_watched_for_failures_of_ours() {
    let streams = BTreeSet::from(["ChatStreamFunction".to_owned()]);
    assert_eq!(watched("server_errors"), streams);
}

/// Else they would hide as many failures of ours, from which those of models are told apart.
#[test]
fn what_fails_after_its_head_is_no_failure_of_the_gateways() {
    let chats = BTreeSet::from(["ChatsFunction".to_owned()]);
    assert_eq!(watched("late_errors"), chats);
}

/// A parameter that is handed the wrong function would watch that one twice.
#[test]
fn each_parameter_is_handed_what_it_is_named_for() {
    for (parameter, resource) in handed_over() {
        let named = match parameter.as_str() {
            "Service" => "AWS::StackName".to_owned(),
            // One of the queues is called as no table and no function is.
            "PoisonQueue" => "Poison".to_owned(),
            other => other.replace("Table", ""),
        };
        assert_eq!(resource, named, "{parameter}");
    }
}

#[test]
fn every_alarm_tells_the_topic_when_it_begins_and_when_it_ends() {
    for (name, alarm) in alarms() {
        for actions in ["AlarmActions", "OKActions"] {
            let told = tagged(&alarm[actions][0], "Ref");
            assert_eq!(told, Some("Topic"), "{name}");
        }
        let is_of_silence = alarm["MetricName"] == "Invocations";
        let missing = if is_of_silence {
            "breaching"
        } else {
            "notBreaching"
        };
        assert_eq!(alarm["TreatMissingData"], missing, "{name}");
    }
    for (name, budget) in resources(OPERATIONS, "AWS::Budgets::Budget") {
        let told = &budget["Properties"]["NotificationsWithSubscribers"];
        for notification in told.as_sequence().unwrap() {
            let told = tagged(&notification["Subscribers"][0]["Address"], "Ref");
            assert_eq!(told, Some("Topic"), "{name}");
        }
    }
}

#[test]
fn every_alarm_has_its_entry_in_the_runbook_and_every_entry_its_alarm() {
    let headings = RUNBOOK.lines().filter_map(|line| line.strip_prefix("## "));
    let mut entries: BTreeSet<_> = headings.map(ToOwned::to_owned).collect();
    entries.remove("where-to-look");
    let mut named = BTreeSet::from(["budget".to_owned()]);
    for (name, alarm) in alarms() {
        let description = alarm["AlarmDescription"].as_str().unwrap();
        let entry = description.split_once(" docs/runbook.md#");
        let (_, entry) = entry.unwrap_or_else(|| panic!("{name} names no entry"));
        named.insert(entry.to_owned());
    }
    assert_eq!(named, entries);
}

/// Each says what it means, what to look at, and what to do.
#[test]
fn every_entry_of_the_runbook_is_whole() {
    let entries = RUNBOOK.split("\n## ").skip(1);
    for entry in entries.filter(|entry| !entry.starts_with("where-to-look")) {
        let name = entry.lines().next().unwrap();
        for part in ["**Means.**", "**Look.**", "**Do.**"] {
            assert!(entry.contains(part), "{name} has no {part}");
        }
    }
}

#[test]
fn the_dashboard_shows_what_becomes_of_deliveries() {
    let (_, dashboard) = resources(OPERATIONS, "AWS::CloudWatch::Dashboard")
        .pop()
        .unwrap();
    let body = tagged(&dashboard["Properties"]["DashboardBody"], "Sub").unwrap();
    for metric in ["delivered", "retried", "dead", "failed", "oldest_job_ms"] {
        let shown = format!(r#"["Parlance", "{metric}", "function", "${{DeliverFunction}}""#);
        assert!(body.contains(&shown), "{metric}");
    }
}

#[test]
fn the_dashboard_shows_the_api_every_function_every_table_and_every_queue() {
    let (_, dashboard) = resources(OPERATIONS, "AWS::CloudWatch::Dashboard")
        .pop()
        .unwrap();
    let body = tagged(&dashboard["Properties"]["DashboardBody"], "Sub").unwrap();
    let parsed: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(parsed["widgets"].as_array().unwrap().len() > 5);
    for parameter in handed_over().keys().filter(|name| *name != "Service") {
        // What watches alone is no picture.
        let shown = body.contains(&format!("\"${{{parameter}}}\""));
        let hidden =
            ["AlarmEmail", "MonthlyBudget", "StreamFailureCame"].contains(&parameter.as_str());
        assert!(shown || hidden, "{parameter}");
    }
}
