#!/usr/bin/env python3
"""Hands over again what was given up: batches of a stream to their function, or with --jobs jobs to their queue.

Lambda puts a batch that it has tried for 23 hours into the bucket `StreamFailures` of the stack, with all of its records.
Each is handed over as it was, the oldest first. What the function takes is removed from the bucket; what it reports as
failed stays, and so does what comes after it: run this again once the cause is mended. A record that was done before does
no harm.

Jobs that SQS has put aside are in the queue `Poison`, beside letters of other kinds. Each is sent to the queue that it came
from, and then removed; letters stay. One that breaks off between the two is done twice, which does no harm.

usage: replay.py --stack NAME [--function heads|fanout | --jobs] [--dry-run]

Wants boto3, and credentials that may read the stack, and then read and delete the bucket's objects and invoke the functions,
or receive from Poison, delete there, and send to the other queues.
"""

import argparse
import json
import sys

import boto3
from botocore.exceptions import ClientError


def failures(s3, bucket):
    """What the bucket holds, the oldest first."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    found = [item for page in pages for item in page.get("Contents", [])]
    return sorted(found, key=lambda item: (item["LastModified"], item["Key"]))


def batch_of(body):
    """The function of a batch, and its event; `None` for what Lambda has not written."""
    failure = json.loads(body)
    event = failure.get("payload")
    # Its records are an object within the object, or its text.
    event = json.loads(event) if isinstance(event, str) else event
    function = failure.get("requestContext", {}).get("functionArn")
    return (function, event) if function and event and event.get("Records") else None


def compact(event):
    """The event in as few bytes as it came: escaped or spaced out it may be more than Lambda takes."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def refused(answer):
    """Why a function did not take a batch; `None` if it did."""
    result = answer["Payload"].read().decode()
    if answer.get("FunctionError"):
        return result
    failed = (json.loads(result) or {}).get("batchItemFailures", [])
    return f"{len(failed)} records failed" if failed else None


def queue_of(body):
    """The resource of the queue that a job came from; `None` for what is no job."""
    try:
        job = json.loads(body)
    except ValueError:
        return None
    if not isinstance(job, dict) or not isinstance(job.get("tenant"), str):
        return None
    if "chat" in job or "agent" in job:
        return "SweepQueue"
    # A letter has a kind too, and no tenant.
    return "FanoutQueue" if "kind" in job else None


# How many receives in a row bring nothing new until nothing new is believed to be there: letters that stay come again.
VAIN = 5


def jobs(sqs, made, dry_run):
    """Sends the jobs of Poison to their queues, until it hands out none that was not seen before."""
    poison, seen, sent, vain = made("Poison"), set(), 0, 0
    while vain < VAIN:
        # For so many seconds nobody else is handed one.
        received = sqs.receive_message(QueueUrl=poison, MaxNumberOfMessages=10, VisibilityTimeout=600, WaitTimeSeconds=2)
        fresh = [it for it in received.get("Messages", []) if it["MessageId"] not in seen]
        vain = 0 if fresh else vain + 1
        for message in fresh:
            seen.add(message["MessageId"])
            body = message["Body"]
            queue = queue_of(body)
            if queue is None:
                continue
            print(f"{message['MessageId']}: for {queue}")
            sent += 1
            if not dry_run:
                sqs.send_message(QueueUrl=made(queue), MessageBody=body, MessageGroupId=json.loads(body)["tenant"])
                sqs.delete_message(QueueUrl=poison, ReceiptHandle=message["ReceiptHandle"])
    print(f"{sent} jobs {'are there' if dry_run else 'were sent'}, {len(seen) - sent} letters stay")
    return 0


def main():
    parser = argparse.ArgumentParser(description="Hands over again what was given up.")
    parser.add_argument("--stack", required=True, help="name of the stack")
    parser.add_argument("--function", choices=["heads", "fanout"], help="only what this one was to take")
    parser.add_argument("--jobs", action="store_true", help="jobs of the queue Poison instead of batches")
    parser.add_argument("--dry-run", action="store_true", help="list them, and change nothing")
    options = parser.parse_args()
    stacks = boto3.client("cloudformation")

    def made(resource):
        described = stacks.describe_stack_resource(StackName=options.stack, LogicalResourceId=resource)
        return described["StackResourceDetail"]["PhysicalResourceId"]

    if options.jobs:
        return jobs(boto3.client("sqs"), made, options.dry_run)
    s3, functions = boto3.client("s3"), boto3.client("lambda")
    bucket = made("StreamFailures")
    # By the names of today: a function that was made anew has another one.
    consumers = {"-HeadsFunction-": ("heads", made("HeadsFunction")), "-FanoutFunction-": ("fanout", made("FanoutFunction"))}
    done = 0
    for item in failures(s3, bucket):
        key = item["Key"]
        batch = batch_of(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        if batch is None:
            print(f"{key}: no batch of a stream, left alone")
            continue
        arn, event = batch
        known = [it for part, it in consumers.items() if part in arn or it[1] == arn.split(":function:")[-1]]
        if not known:
            print(f"{key}: {arn} is no function of this stack, left alone")
            continue
        function, name = known[0]
        if options.function not in (None, function):
            continue
        print(f"{key}: {len(event['Records'])} records for {function}")
        if options.dry_run:
            continue
        try:
            why = refused(functions.invoke(FunctionName=name, Payload=compact(event)))
        except ClientError as error:
            why = str(error)
        if why:
            print(f"{key}: {why}. It stays, and so does what came after it")
            return 1
        s3.delete_object(Bucket=bucket, Key=key)
        done += 1
    print(f"{done} batches were taken")
    return 0


if __name__ == "__main__":
    sys.exit(main())
