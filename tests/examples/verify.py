# python3 verify.py < webhooks.json: judges each webhook by the official library of Standard Webhooks.
import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError


def judged(webhook):
    try:
        verified = Webhook(webhook["secret"]).verify(webhook["body"], webhook["headers"])
    except WebhookVerificationError:
        return None
    return verified["type"]


print(json.dumps([judged(webhook) for webhook in json.load(sys.stdin)]))
