"""What schemathesis cannot know from the description: see schemathesis.py, which runs it."""

import itertools
import json
import os

import schemathesis

TURNS = json.loads(os.environ["PARLANCE_TURNS"])
IDS = json.loads(os.environ["PARLANCE_IDS"])
FIRST = TURNS[0]
turns = itertools.cycle(TURNS)


@schemathesis.hook
def before_call(context, case, kwargs):
    headers = kwargs.get("headers")
    # A key's budget is small, so they take turns; but not where a check tries a request without one, or with another.
    if len(TURNS) > 1 and headers and all(headers.get(name) == value for name, value in FIRST.items()):
        headers.update(next(turns))
    # The operator names no user, and one that is named all the same is not looked at.
    if "X-Master-Key" in FIRST and case.headers:
        case.headers.pop("X-User-Id", None)
    if case.meta is not None and case.meta.generation.mode.is_positive:
        settle(case)


def settle(case):
    """Makes a right request one that the service can serve: what it names is there, and what is opaque is left out."""
    # Requests that follow from others name what those made; and what is deleted is not there for others.
    is_first = case.meta.phase.name.value != "stateful" and case.method != "DELETE"
    path, query, body = case.path_parameters or {}, case.query or {}, case.body
    for named in (path, query, body if isinstance(body, dict) else {}):
        for name in IDS.keys() & named.keys():
            if isinstance(named[name], str) and (is_first or name == "tenant_id"):
                named[name] = IDS[name]
        # A place in a list that no list named, and a version that no change has made.
        named.pop("cursor", None)
        if isinstance(named.get("version"), (int, float)):
            named["version"] = 1
        for address in ("url", "base_url"):
            # A name that leads nowhere: nobody outside is asked.
            if isinstance(named.get(address), str):
                named[address] = "https://nobody.invalid/hooks"
    case.body = whole(body)


def whole(value):
    """The same with 1 for 1.0: JSON Schema takes it for an integer, and the service for what it is written as."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {name: whole(member) for name, member in value.items()}
    return value
