#!/usr/bin/env python3
"""What a template must pass before it is deployed: SAM's own validation, the expanded template under cfn-lint
(`sam validate --lint` alone misses most mistakes), checkov on what is really deployed, and room below AWS's limits. No AWS
is asked.

usage: gate.py template.yaml [expanded.json]

The environment variable CHECKOV names the checkov to use. Prints the findings; without any, exits 0. The expanded
template is left where the second argument says.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-1")

from cfnlint.api import lint_file  # noqa: E402
from cfnlint.config import ManualArgs  # noqa: E402
from samcli.yamlhelper import yaml_parse  # noqa: E402
from samtranslator.public.exceptions import InvalidDocumentException  # noqa: E402
from samtranslator.translator.transform import transform  # noqa: E402

HERE = Path(__file__).resolve().parent
REGION = "eu-west-1"
# The nested template is a file until `sam deploy` has put it into a bucket.
PACKAGED_LATER = ["W3002"]
# The most of each, well below where AWS refuses: 300 routes of an HTTP API, 500 resources of a template. Functions are what
# both grow with. A third reader of a table's stream would be throttled by the other two.
MOST = {"routes": 150, "resources": 400, "functions": 36, "readers of one stream": 2}
# checkov wants a DeadLetterConfig of every function. It matters to those alone that are invoked asynchronously, and they may
# have an on-failure destination instead.
DEAD_LETTERS = "CKV_AWS_116"
# It would say that nobody collects the transform's metrics.
logging.getLogger("samtranslator").setLevel(logging.ERROR)


class NoManagedPolicies:
    """The template writes its policies out, so none has to be looked up."""

    def load(self):
        return {}


def nested(template):
    """The files of the templates nested in `template`."""
    resources = yaml_parse(template.read_text(encoding="utf-8"))["Resources"].values()
    stacks = (it for it in resources if it["Type"] == "AWS::CloudFormation::Stack")
    return [(template.parent / it["Properties"]["TemplateURL"]).resolve() for it in stacks]


def expand(template, target):
    """Writes what SAM makes of `template`, and CloudFormation gets, to `target`."""
    document = yaml_parse(template.read_text(encoding="utf-8"))
    # The transform wants code that is packaged already.
    document["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    for resource in document["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
        if resource["Type"] == "AWS::CloudFormation::Stack":
            properties = resource["Properties"]
            properties["TemplateURL"] = str((template.parent / properties["TemplateURL"]).resolve())
    expanded = transform(document, {}, NoManagedPolicies())
    target.write_text(json.dumps(expanded, indent=1), encoding="utf-8")


def sam(template):
    """Both of SAM's validations. `--lint` replaces the other, so neither is enough."""
    findings = []
    for lint_too in ([], ["--lint"]):
        command = [sys.executable, "-m", "samcli", "validate", "--template", str(template), *lint_too]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            findings.append(f"sam validate {' '.join(lint_too)}: {run.stdout}{run.stderr}")
    return findings


def linted(files):
    """cfn-lint's findings in the expanded template and in those nested in it."""
    findings = []
    for file in files:
        for match in lint_file(file, config=ManualArgs(regions=[REGION], ignore_checks=PACKAGED_LATER)):
            where = "/".join(str(part) for part in match.path or []) or match.linenumber
            findings.append(f"{file.name}: {match.rule.id} {match.message} ({where})")
    return findings


def invoked_asynchronously(resources):
    """The ARNs that a schedule, a rule, a topic or a bucket invokes: none of them waits for an answer."""
    arns = []
    for resource in resources.values():
        kind, properties = resource["Type"], resource.get("Properties", {})
        if kind == "AWS::Scheduler::Schedule":
            arns.append(properties["Target"]["Arn"])
        if kind == "AWS::Events::Rule":
            arns += [it["Arn"] for it in properties.get("Targets", [])]
        if kind == "AWS::SNS::Subscription" and properties.get("Protocol") == "lambda":
            arns.append(properties["Endpoint"])
        if kind == "AWS::SNS::Topic":
            arns += [it["Endpoint"] for it in properties.get("Subscription", []) if it["Protocol"] == "lambda"]
        if kind == "AWS::S3::Bucket":
            told = properties.get("NotificationConfiguration", {}).get("LambdaConfigurations", [])
            arns += [it["Function"] for it in told]
    return arns


def silent_on_failure(template):
    """The functions that are invoked asynchronously, and tell nobody of an invocation that fails."""
    resources = template["Resources"]
    targets = invoked_asynchronously(resources)
    heard = [
        it["Properties"]["FunctionName"].get("Ref")
        for it in resources.values()
        if it["Type"] == "AWS::Lambda::EventInvokeConfig"
        and it["Properties"].get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    ]
    functions = [name for name, it in resources.items() if it["Type"] == "AWS::Lambda::Function"]
    return {name for name in functions if {"Fn::GetAtt": [name, "Arn"]} in targets and name not in heard}


def checked(files):
    """checkov's findings in `files`, by file. One run for all: it takes seconds to start."""
    command = [os.environ.get("CHECKOV", "checkov"), "--config-file", str(HERE / "checkov.yaml"), "--output", "json"]
    for file in files:
        command += ["--file", str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report = json.loads(run.stdout)
    except json.JSONDecodeError:
        sys.exit(f"checkov did not report:\n{run.stdout}{run.stderr}")
    reports = report if isinstance(report, list) else [report]
    findings = {Path(file).name: [] for file in files}
    silent = {Path(file).name: silent_on_failure(load(Path(file))) for file in files}
    for results in (it["results"] for it in reports if "results" in it):
        if results.get("parsing_errors"):
            sys.exit(f"checkov cannot read {results['parsing_errors']}")
        for failed in results["failed_checks"]:
            name = Path(failed["file_path"]).name
            if failed["check_id"] == DEAD_LETTERS and failed["resource"].split(".")[-1] not in silent[name]:
                continue
            findings[name].append(f"{name}: {failed['check_id']} {failed['check_name']} ({failed['resource']})")
    return findings


def counts(template):
    """How many of each kind in MOST an expanded template has."""
    resources = template["Resources"].values()
    kinds = [it["Type"] for it in resources]
    routes = [
        sum(len(methods) for methods in it["Properties"].get("Body", {}).get("paths", {}).values())
        for it in resources
        if it["Type"] == "AWS::ApiGatewayV2::Api"
    ]
    written = [it["Properties"]["ApiId"] for it in resources if it["Type"] == "AWS::ApiGatewayV2::Route"]
    sources = [
        json.dumps(it["Properties"].get("EventSourceArn"))
        for it in resources
        if it["Type"] == "AWS::Lambda::EventSourceMapping"
    ]
    readers = [sources.count(it) for it in sources if "StreamArn" in it]
    return {
        "routes": max(routes + [written.count(it) for it in written], default=0),
        "resources": len(resources),
        "functions": kinds.count("AWS::Lambda::Function"),
        "readers of one stream": max(readers, default=0),
    }


def load(file):
    """A template as it is written, with its functions of CloudFormation in their long form."""
    return yaml_parse(file.read_text(encoding="utf-8"))


def bounded(files):
    """What an expanded template, or one nested in it, has too much of."""
    return [
        f"{file.name}: {count} {kind}, of which at most {MOST[kind]} leave room to grow"
        for file in files
        for kind, count in counts(load(file)).items()
        if count > MOST[kind]
    ]


def main(template, target=None):
    findings = sam(template)
    with tempfile.TemporaryDirectory() as folder:
        expanded = target or Path(folder) / "expanded.json"
        try:
            expand(template, expanded)
        except InvalidDocumentException as error:
            findings += [f"SAM transform: {cause.message}" for cause in error.causes]
        else:
            files = [expanded, *nested(template)]
            findings += linted(files) + bounded(files)
            findings += [finding for file in checked(files).values() for finding in file]
            has = ", ".join(f"{count} {kind}" for kind, count in counts(load(expanded)).items())
    print("\n".join(findings) or f"{template.name}: no finding; {has}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(*(Path(argument).resolve() for argument in sys.argv[1:3])))
