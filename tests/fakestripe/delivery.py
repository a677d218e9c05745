"""Webhooks: signed as Stripe documents it, delivered at least once, tried again when refused."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from itertools import islice

import httpx

from tests.fakestripe.answers import public
from tests.fakestripe.world import Json, World

TRIES = 12
AT_ONCE = 8
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 60.0


def signature(payload: bytes, secrets: list[str], timestamp: int) -> str:
    """The header `Stripe-Signature`: a time and one HMAC-SHA256 of time and body per secret."""
    signed = str(timestamp).encode() + b"." + payload
    marks = [hmac.new(s.encode(), signed, hashlib.sha256).hexdigest() for s in secrets]
    return ",".join([f"t={timestamp}", *(f"v1={mark}" for mark in marks)])


@dataclass(slots=True)
class Endpoint:
    """Where events go, and what they are signed with; two secrets while one replaces the other."""

    url: str
    secrets: list[str]
    thin: bool = False


@dataclass(slots=True)
class Deliverer:
    """Sends what is due and notes what became of it."""

    world: World
    endpoints: list[Endpoint]
    log: list[Json] = field(default_factory=list)
    held: bool = False

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with httpx.AsyncClient(timeout=10.0, trust_env=False) as client:
            while True:
                due = [] if self.held else self._due()
                if due:
                    await asyncio.gather(*(self._deliver(client, one) for one in due))
                    self.world.save()
                else:
                    await asyncio.sleep(0.01)

    def waiting(self) -> int:
        """How many events still have somewhere to go."""
        kinds = {endpoint.thin for endpoint in self.endpoints}
        return sum(1 for state in self.world.deliveries.values() if state["thin"] in kinds)

    def _due(self) -> list[str]:
        kinds = {endpoint.thin for endpoint in self.endpoints}
        if not kinds:
            return []
        now = self.world.now()
        due = (
            event_id
            for event_id, state in self.world.deliveries.items()
            if state["thin"] in kinds and state["next_at"] <= now
        )
        return list(islice(due, AT_ONCE))

    def redeliver(self, event_id: str) -> None:
        """Send an event once more, delivered or not."""
        thin = event_id in self.world.objects.get("v2.event", {})
        self.world.get("v2.event" if thin else "event", event_id)
        self.world.deliveries[event_id] = {"thin": thin, "tries": 0, "next_at": self.world.now()}

    async def _deliver(self, client: httpx.AsyncClient, event_id: str) -> None:
        state = self.world.deliveries[event_id]
        kind = "v2.event" if state["thin"] else "event"
        payload = json.dumps(public(self.world.get(kind, event_id))).encode()
        state["tries"] += 1
        good = True
        for endpoint in self.endpoints:
            if endpoint.thin != state["thin"]:
                continue
            headers = {
                "content-type": "application/json; charset=utf-8",
                "user-agent": "fakestripe (a stand-in for Stripe)",
                "stripe-signature": signature(payload, endpoint.secrets, self.world.stamp()),
            }
            try:
                answer = await client.post(endpoint.url, content=payload, headers=headers)
                status, note = answer.status_code, ""
            except httpx.HTTPError as error:
                status, note = 0, type(error).__name__
            good = good and 200 <= status < 300
            self.log.append(
                {"event": event_id, "url": endpoint.url, "status": status, "note": note}
            )
        # Another request may have asked for this event again meanwhile; its wish stands.
        if self.world.deliveries.get(event_id) is not state:
            return
        if good or state["tries"] >= TRIES:
            del self.world.deliveries[event_id]
        else:
            wait = min(FIRST_WAIT_S * 2 ** (state["tries"] - 1), LONGEST_WAIT_S)
            state["next_at"] = self.world.now() + wait
