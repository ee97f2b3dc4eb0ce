#!/usr/bin/env python3
"""Shows that the gate bites: each mistake is made in a copy of the template, and the gate must find it.

A gate that found nothing would otherwise look like a template without mistakes.

usage: bite.py template.yaml        (CHECKOV as for gate.py)
"""

import shutil
import sys
import tempfile
from pathlib import Path

import gate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cost"))
import cost  # noqa: E402
from samtranslator.public.exceptions import InvalidDocumentException

# What must find it, what is replaced, and by what; in template.yaml, or in the file that is named.
SAM, LINT, CHECKOV, ROOM, COST = "SAM", "cfn-lint", "checkov", "the count", "the cost"
JOBS = """  Jobs:
    Type: AWS::SQS::Queue
    Properties: { KmsMasterKeyId: alias/aws/sqs, VisibilityTimeout: 10 }
"""
TIMEOUT_OF_EDGE = """      MemorySize: 128
      Timeout: 5
      # Public: strangers"""
ROUTE = "          /%d: { get: { x-amazon-apigateway-integration: { $ref: '#/components/x-amazon-apigateway-integrations/Edge' } } }\n"
QUEUE = "  Queue%d: { Type: AWS::SQS::Queue }\n"
FUNCTION = "  Function%d: { Type: AWS::Serverless::Function, Properties: { Role: !GetAtt EdgeRole.Arn } }\n"
ALARM = "  Alarm%d: { Type: AWS::CloudWatch::Alarm, Properties: { Namespace: AWS/SQS, MetricName: NumberOfMessagesSent } }\n"
KEY = "  Key%d: { Type: AWS::KMS::Key }\n"
READER = """  Third:
    Type: AWS::Lambda::EventSourceMapping
    Properties: { FunctionName: !Ref SweepFunction, EventSourceArn: !GetAtt Messages.StreamArn, StartingPosition: LATEST }
"""
MISTAKES = {
    "there are too many routes": (ROOM, "routes", "        paths:\n", "        paths:\n" + "".join(ROUTE % it for it in range(150))),
    "there are too many resources": (ROOM, "resources", "Resources:\n", "Resources:\n" + "".join(QUEUE % it for it in range(400))),
    "there are too many functions": (ROOM, "functions", "Resources:\n", "Resources:\n" + "".join(FUNCTION % it for it in range(36))),
    "an idle stack has many more alarms": (
        COST,
        "an idle stack costs",
        "Resources:\n",
        "Resources:\n" + "".join(ALARM % it for it in range(40)),
        "infra/operations.yaml",
    ),
    "an idle stack has more keys": (COST, "an idle stack costs", "Resources:\n", "Resources:\n" + "".join(KEY % it for it in range(4))),
    "a stream has a third reader": (ROOM, "readers of one stream", "Resources:\n", "Resources:\n" + READER),
    "a table is referred to by a wrong name": (LINT, "E1020", "TENANTS_TABLE: !Ref Tenants", "TENANTS_TABLE: !Ref Tenant"),
    "an attribute has a typo": (LINT, "E1010", "Stream: !GetAtt Messages.StreamArn", "Stream: !GetAtt Messages.StreamARN"),
    "the runtime has a typo": (LINT, "E3030", "Runtime: provided.al2023", "Runtime: provided.al2032"),
    "a time-out is a word": (LINT, "E3012", TIMEOUT_OF_EDGE, TIMEOUT_OF_EDGE.replace("5", "short", 1)),
    "a time-out is longer than Lambda's longest": (LINT, "E3717", TIMEOUT_OF_EDGE, TIMEOUT_OF_EDGE.replace("5", "901", 1)),
    "a policy template has a typo": (
        SAM,
        "property is not valid",
        "Role: !GetAtt EdgeRole.Arn",
        "Policies: [{ DynamoDBReadPolcy: { TableName: !Ref Rooms } }]",
    ),
    "a response type has a typo": (LINT, "E3030", "[ReportBatchItemFailures]", "[ReportBatchItemFailure]"),
    "a queue hides a message for less than its function may take": (
        LINT,
        "E3505",
        "      Events:\n        Messages:\n",
        "      Events:\n        Jobs: { Type: SQS, Properties: { Queue: !GetAtt Jobs.Arn } }\n        Messages:\n",
        ("Resources:\n", "Resources:\n" + JOBS),
    ),
    "an action does not exist": (LINT, "W3037", "Action: [sqs:SendMessage]", "Action: [sqs:SendMessages]"),
    "an index has a key that is not defined": (
        LINT,
        "E3039",
        "        - { AttributeName: dead_at, AttributeType: S }\n",
        "",
    ),
    "a condition does not exist": (LINT, "E3015", "Condition: MakeMasterKey", "Condition: MakeMasterKeys"),
    "the nested template is not handed a parameter": (LINT, "E3043", "        PoisonQueue: !GetAtt Poison.QueueName\n", ""),
    "an alarm's statistic has a typo": (
        LINT,
        "E3030",
        "      Statistic: Sum\n",
        "      Statistic: Summ\n",
        "infra/operations.yaml",
    ),
    "a queue is not encrypted": (
        CHECKOV,
        "CKV_AWS_27",
        "Resources:\n",
        "Resources:\n  Plain:\n    Type: AWS::SQS::Queue\n    Properties: { SqsManagedSseEnabled: false }\n",
    ),
    "a bucket may be made public": (
        CHECKOV,
        "CKV_AWS_53",
        "BlockPublicAcls: true",
        "BlockPublicAcls: false",
    ),
    "a table has no backups": (
        CHECKOV,
        "CKV_AWS_28",
        "PointInTimeRecoveryEnabled: true",
        "PointInTimeRecoveryEnabled: false",
    ),
    "a role may do anything to any table": (
        CHECKOV,
        "CKV_AWS_111",
        "Action: [dynamodb:PutItem]\n                Resource: !GetAtt Events.Arn",
        'Action: ["dynamodb:*"]\n                Resource: "*"',
    ),
    "a function has a public address of its own": (
        CHECKOV,
        "CKV_AWS_258",
        "Role: !GetAtt EdgeRole.Arn",
        "FunctionUrlConfig: { AuthType: NONE }\n      Role: !GetAtt EdgeRole.Arn",
    ),
    "a credential stands in the environment": (
        CHECKOV,
        "CKV_AWS_45",
        "POISON_QUEUE: !Ref Poison",
        "POISON_QUEUE: !Ref Poison\n          AWS_ACCESS_KEY_ID: AKIAIOSFODNN7EXAMPL0",
    ),
    "a failed run of the schedule is told to nobody": (
        CHECKOV,
        "CKV_AWS_116",
        """        DestinationConfig:
          OnFailure: { Type: SQS, Destination: !GetAtt FailedRunsQueue.Arn }
""",
        "",
    ),
    "a rule invokes a function whose failures are told to nobody": (
        CHECKOV,
        "CKV_AWS_116",
        "Resources:\n",
        "Resources:\n  Came: { Type: AWS::Events::Rule, Properties: { EventPattern: { source: [aws.s3] }, Targets: [{ Id: Edge, Arn: !GetAtt EdgeFunction.Arn }] } }\n",
    ),
    "a bucket invokes a function whose failures are told to nobody": (
        CHECKOV,
        "CKV_AWS_116",
        "NotificationConfiguration: {",
        "NotificationConfiguration: { LambdaConfigurations: [{ Event: 's3:ObjectCreated:*', Function: !GetAtt EdgeFunction.Arn }],",
    ),
    "logs are kept for ever": (CHECKOV, "CKV_AWS_66", "      RetentionInDays: !Ref LogRetentionDays\n", ""),
    "a log group takes no key": (
        CHECKOV,
        "CKV_AWS_158",
        ", KmsKeyId: !If [CustomerKey, !Ref EncryptionKey, !Ref AWS::NoValue] }",
        " }",
    ),
    "a queue takes no key": (
        CHECKOV,
        "CKV_AWS_27",
        "      SqsManagedSseEnabled: !If [CustomerKey, false, true]\n      KmsMasterKeyId: !If [CustomerKey, !Ref EncryptionKey, !Ref AWS::NoValue]\n",
        "",
    ),
    "a name's record leads to an attribute that it has not": (
        LINT,
        "E1010",
        "!GetAtt Name.RegionalHostedZoneId",
        "!GetAtt Name.RegionalZoneId",
        "infra/domain.yaml",
    ),
    "the front is open without TLS": (
        CHECKOV,
        "CKV_AWS_34",
        "ViewerProtocolPolicy: https-only",
        "ViewerProtocolPolicy: allow-all",
        "infra/front.yaml",
    ),
    "the front has no WAF": (
        CHECKOV,
        "CKV_AWS_68",
        "        WebACLId: !If [MakeAcl, !GetAtt Acl.Arn, !Ref WebAclArn]\n",
        "",
        "infra/front.yaml",
    ),
    "the front is not handed a parameter": (LINT, "E3043", "        WebAclArn: !Ref WebAclArn\n", ""),
    "the topic is not encrypted": (
        CHECKOV,
        "CKV_AWS_26",
        "      KmsMasterKeyId: !Ref TopicKey\n",
        "",
        "infra/operations.yaml",
    ),
}


def seed(mistake, root, folder):
    """A copy of the templates with one mistake; its template.yaml."""
    _, _, old, new, *more = MISTAKES[mistake]
    (folder / "infra").mkdir(parents=True)
    for file in (root / "template.yaml", *(root / "infra").glob("*.yaml")):
        shutil.copy(file, folder / file.relative_to(root))
    replacements = [("template.yaml", old, new)]
    for extra in more:
        if isinstance(extra, str):
            replacements[0] = (extra, old, new)
        else:
            replacements.append(("template.yaml", *extra))
    for name, was, becomes in replacements:
        text = (folder / name).read_text(encoding="utf-8")
        if was not in text:
            sys.exit(f"“{mistake}” cannot be made: {name} has no {was!r}")
        (folder / name).write_text(text.replace(was, becomes, 1), encoding="utf-8")
    return folder / "template.yaml"


def main(template):
    missed, later = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, (mistake, (who, finding, *_)) in enumerate(MISTAKES.items()):
            folder = Path(scratch) / str(number)
            made, found = seed(mistake, template.parent, folder), []
            expanded = folder / f"expanded{number}.json"
            try:
                gate.expand(made, expanded)
            except InvalidDocumentException as error:
                found = [cause.message for cause in error.causes] if who == SAM else []
            else:
                # checkov tells files apart by their names.
                files = [expanded]
                for it in gate.nested(made):
                    files.append(folder / f"{it.stem}{number}.yaml")
                    shutil.copy(it, files[-1])
                if who == CHECKOV:
                    later[mistake] = files
                    continue
                if who == LINT:
                    found = gate.linted(files)
                if who == ROOM:
                    found = gate.bounded(files)
                if who == COST:
                    found = cost.too_much(gate.load(expanded))
            if not any(finding in it for it in found):
                missed.append(f"{mistake}: {who} does not say {finding}, but {found}")
        findings = gate.checked([file for files in later.values() for file in files])
        for mistake, files in later.items():
            finding, found = MISTAKES[mistake][1], [it for file in files for it in findings[file.name]]
            if not any(finding in it for it in found):
                missed.append(f"{mistake}: {CHECKOV} does not say {finding}, but {found}")
    print("\n".join(missed) or f"the gate finds all of {len(MISTAKES)} mistakes")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
