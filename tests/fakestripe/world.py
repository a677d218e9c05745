"""Everything the stand-in remembers: objects, events, keys, due times and the bank."""

from __future__ import annotations

import heapq
import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakestripe.bank import Bank

Json = dict[str, Any]
"""One JSON object. The stand-in deals in Stripe's documents, so it keeps them as documents."""

API_VERSION = "2026-10-28.endive"
PLATFORM = "platform"


class ApiRefusal(Exception):
    """An answer that is an error, in the words of Stripe's error object."""

    def __init__(
        self, status: int, kind: str, message: str, *, code: str = "", param: str = "", **more: Any
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"type": kind, "message": message, **more}
        if code:
            self.body["code"] = code
        if param:
            self.body["param"] = param


def not_found(kind: str, object_id: str) -> ApiRefusal:
    """The answer for an object that this account does not have."""
    return ApiRefusal(
        404,
        "invalid_request_error",
        f"No such {kind}: '{object_id}'",
        code="resource_missing",
        param="id",
    )


@dataclass(frozen=True, slots=True)
class Delays:
    """How long things take, in seconds of the stand-in's clock."""

    payout_s: float = 0.2
    settle_s: float = 0.2


@dataclass(kw_only=True)
class World:
    """The state of the stand-in; one thread at a time touches it."""

    delays: Delays = Delays()
    state_file: Path | None = None
    instant_onboarding: bool = False
    bank: Bank = field(default_factory=Bank)
    objects: dict[str, dict[str, Json]] = field(default_factory=dict)
    owner_of: dict[str, str] = field(default_factory=dict)
    deliveries: dict[str, Json] = field(default_factory=dict)
    keys: dict[str, Json] = field(default_factory=dict)
    due: list[list[Any]] = field(default_factory=list)
    clock_offset_s: float = 0.0
    paused: bool = False
    longest_page: int = 100
    sequence: int = 0
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    ids_of: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def now(self) -> float:
        """Seconds since 1970 on the stand-in's clock, which a test may move forward."""
        return time.time() + self.clock_offset_s

    def stamp(self) -> int:
        """The same in whole seconds, as v1 objects carry it."""
        return int(self.now())

    def iso(self) -> str:
        """The same as v2 objects carry it."""
        return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.now()))

    def new_id(self, prefix: str) -> str:
        """An id that no earlier run of the stand-in can have given out."""
        self.sequence += 1
        return f"{prefix}_{self.run}{self.sequence:08d}"

    def put(self, kind: str, obj: Json, *, owner: str = PLATFORM) -> Json:
        """Remember a new object as belonging to an account."""
        self.objects.setdefault(kind, {})[obj["id"]] = obj
        self.owner_of[obj["id"]] = owner
        self.ids_of.setdefault((kind, owner), []).append(obj["id"])
        return obj

    def get(self, kind: str, object_id: str, *, owner: str | None = None) -> Json:
        """The object, as its owner sees it.

        Raises:
            ApiRefusal: 404, for a stranger too.
        """
        obj = self.objects.get(kind, {}).get(object_id)
        if obj is None or (owner is not None and self.owner_of[object_id] != owner):
            raise not_found(kind, object_id)
        return obj

    def every(self, kind: str, *, owner: str | None = None) -> list[Json]:
        """All objects of a kind, newest first, as Stripe lists them."""
        known = self.objects.get(kind, {})
        if owner is None:
            return list(reversed(known.values()))
        return [known[one] for one in reversed(self.ids_of.get((kind, owner), []))]

    def later(self, delay_s: float, action: str, subject: str) -> None:
        """Note that something happens by itself after a while."""
        self.sequence += 1
        heapq.heappush(self.due, [self.now() + delay_s, self.sequence, action, subject])

    def pop_due(self) -> tuple[str, str] | None:
        """The next thing whose time has come, unless time was paused."""
        if self.paused or not self.due or self.due[0][0] > self.now():
            return None
        _, _, action, subject = heapq.heappop(self.due)
        return str(action), str(subject)

    def event(self, kind: str, obj: Json, *, account: str = PLATFORM) -> Json:
        """Write a snapshot event; whoever delivers webhooks finds it in the list."""
        event: Json = {
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.stamp(),
            "data": {"object": json.loads(json.dumps(obj))},
            "livemode": False,
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
        }
        if account != PLATFORM:
            event["account"] = account
        self.deliveries[event["id"]] = {"thin": False, "tries": 0, "next_at": self.now()}
        return self.put("event", event, owner=account)

    def thin_event(self, kind: str, account_id: str) -> Json:
        """Write a v2 event: it names an account and holds none of its data."""
        event: Json = {
            "id": self.new_id("evt"),
            "object": "v2.core.event",
            "type": kind,
            "created": self.iso(),
            "livemode": False,
            "context": None,
            "related_object": {
                "id": account_id,
                "type": "v2.core.account",
                "url": f"/v2/core/accounts/{account_id}",
            },
        }
        self.deliveries[event["id"]] = {"thin": True, "tries": 0, "next_at": self.now()}
        return self.put("v2.event", event)

    def forget(self) -> None:
        """Begin again with nothing, under ids that were never given out."""
        here = self.objects.get("self", {})
        for kept in (self.objects, self.owner_of, self.deliveries, self.keys, self.ids_of):
            kept.clear()
        self.due.clear()
        self.objects["self"] = here
        self.bank = Bank()
        self.clock_offset_s = 0.0
        self.paused = False
        self.longest_page = 100
        self.run = secrets.token_hex(4)

    def save(self) -> None:
        """Write everything to the state file: whole or not at all, should this process end."""
        if self.state_file is None:
            return
        document = {
            # Where it listens is this process's own, and no object of an account's.
            "objects": {kind: known for kind, known in self.objects.items() if kind != "self"},
            "owner_of": self.owner_of,
            "deliveries": self.deliveries,
            "keys": self.keys,
            "due": self.due,
            "clock_offset_s": self.clock_offset_s,
            "sequence": self.sequence,
            "run": self.run,
            "bank": self.bank.dump(),
        }
        scratch = self.state_file.with_suffix(self.state_file.suffix + ".new")
        scratch.write_text(json.dumps(document), encoding="utf-8")
        scratch.replace(self.state_file)

    def load(self) -> bool:
        """Take over what an earlier process wrote; False when there is no state file yet."""
        if self.state_file is None or not self.state_file.exists():
            return False
        document = json.loads(self.state_file.read_text(encoding="utf-8"))
        self.objects = document["objects"]
        self.owner_of = document["owner_of"]
        self.deliveries = document["deliveries"]
        for kind, known in self.objects.items():
            for one in known:
                self.ids_of.setdefault((kind, self.owner_of[one]), []).append(one)
        self.keys = document["keys"]
        self.due = document["due"]
        self.clock_offset_s = document["clock_offset_s"]
        self.sequence = document["sequence"]
        self.run = document["run"]
        self.bank.load(document["bank"])
        return True


def transaction(
    world: World,
    *,
    owner: str,
    kind: str,
    category: str,
    source: str,
    amount: int,
    currency: str,
    fee: int = 0,
    status: str = "available",
    description: str | None = None,
    exchange_rate: str | None = None,
) -> Json:
    """Write one balance transaction of an account; the bank's legs are the caller's business."""
    fees = [{"amount": fee, "currency": currency, "type": "stripe_fee"}] if fee else []
    for line in fees:
        line |= {"application": None, "description": "Stand-in processing fee"}
    return world.put(
        "balance_transaction",
        {
            "id": world.new_id("txn"),
            "object": "balance_transaction",
            "amount": amount,
            "available_on": world.stamp(),
            "balance_type": "payments",
            "created": world.stamp(),
            "currency": currency,
            "description": description,
            "exchange_rate": None if exchange_rate is None else float(exchange_rate),
            "fee": fee,
            "fee_details": fees,
            "net": amount - fee,
            "reporting_category": category,
            "source": source,
            "status": status,
            "type": kind,
        },
        owner=owner,
    )
