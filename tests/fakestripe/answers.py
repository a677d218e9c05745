"""How requests arrive at a handler and how objects leave: expansion, pages, hidden fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fakestripe.world import PLATFORM, ApiRefusal, Json, World

KIND_OF_PREFIX = {
    "pi": "payment_intent",
    "ch": "charge",
    "py": "charge",
    "txn": "balance_transaction",
    "tr": "transfer",
    "trr": "transfer_reversal",
    "po": "payout",
    "re": "refund",
    "du": "dispute",
    "pyr": "refund",
    "evt": "event",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request that passed the gate: typed parameters, and on whose behalf it was made."""

    method: str
    template: str
    ids: tuple[str, ...]
    params: Json = field(default_factory=dict)
    account: str = PLATFORM

    @property
    def operation(self) -> str:
        """As the published description names it: ``post /v1/transfers``."""
        return f"{self.method.lower()} {self.template}"


Handler = Callable[[World, Call], Json]


def public(obj: Json) -> Json:
    """A copy without the fields that only the stand-in knows."""
    return json.loads(json.dumps({k: v for k, v in obj.items() if not k.startswith("_")}))  # type: ignore[no-any-return]


def _expanded(world: World, value: object, path: list[str]) -> object:
    if not path or value is None:
        return value
    if isinstance(value, list):
        return [_expanded(world, item, path) for item in value]
    if isinstance(value, dict):
        head, *rest = path
        inner = value.get(head)
        if isinstance(inner, str):
            kind = KIND_OF_PREFIX.get(inner.split("_", 1)[0], "")
            found = world.objects.get(kind, {}).get(inner)
            if found is not None:
                inner = public(found)
        value[head] = _expanded(world, inner, rest)
    return value


def rendered(world: World, obj: Json, call: Call) -> Json:
    """The object as the caller sees it, with what it asked to have expanded."""
    answer = public(obj)
    for path in call.params.get("expand", []):
        _expanded(world, answer, str(path).split("."))
    return answer


def page(world: World, found: list[Json], call: Call) -> Json:
    """One page of a v1 list, newest first, with cursors as Stripe documents them."""
    params = call.params
    created = params.get("created")
    if isinstance(created, dict):
        tests = {
            "gt": lambda a, b: a > b,
            "gte": lambda a, b: a >= b,
            "lt": lambda a, b: a < b,
            "lte": lambda a, b: a <= b,
        }
        for name, bound in created.items():
            found = [obj for obj in found if tests[name](obj["created"], int(bound))]
    elif created is not None:
        found = [obj for obj in found if obj["created"] == int(created)]
    ids = [obj["id"] for obj in found]
    limit = int(params.get("limit", 10))
    if not 1 <= limit <= 100:
        raise ApiRefusal(
            400, "invalid_request_error", "limit must be between 1 and 100", param="limit"
        )
    limit = min(limit, world.longest_page)
    start = 0
    if after := params.get("starting_after"):
        if after not in ids:
            raise ApiRefusal(
                400, "invalid_request_error", f"No such object: {after}", param="starting_after"
            )
        start = ids.index(after) + 1
    chosen = found[start : start + limit]
    body: Json = {
        "object": "list",
        "data": [public(obj) for obj in chosen],
        "has_more": start + limit < len(found),
        "url": call.template,
    }
    for path in params.get("expand", []):
        _expanded(world, body, str(path).split("."))
    return body
