#!/usr/bin/env python3
"""Hands batches of a stream that were given up to their function again.

Lambda puts a batch that it has tried for 23 hours into the bucket `StreamFailures` of the stack, with all of its records.
Each is handed over as it was, the oldest first. What the function takes is removed from the bucket; what it reports as
failed stays, and so does what comes after it: run this again once the cause is mended. A record that was done before does
no harm.

usage: replay.py --stack NAME [--function heads|fanout] [--dry-run]

Wants boto3, and credentials that may read the stack, read and delete the bucket's objects, and invoke the functions.
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


def main():
    parser = argparse.ArgumentParser(description="Hands batches of a stream that were given up to their function again.")
    parser.add_argument("--stack", required=True, help="name of the stack")
    parser.add_argument("--function", choices=["heads", "fanout"], help="only what this one was to take")
    parser.add_argument("--dry-run", action="store_true", help="list them, and change nothing")
    options = parser.parse_args()
    s3, functions, stacks = boto3.client("s3"), boto3.client("lambda"), boto3.client("cloudformation")

    def made(resource):
        described = stacks.describe_stack_resource(StackName=options.stack, LogicalResourceId=resource)
        return described["StackResourceDetail"]["PhysicalResourceId"]

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
