"""The stand-in as an ASGI application: gate, keys, faults, handlers, tape; and its own paths."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.fakestripe import accounts, control, disputes, invoices, moves, payments
from tests.fakestripe.answers import Call, Handler
from tests.fakestripe.bank import InsufficientFunds
from tests.fakestripe.delivery import Deliverer
from tests.fakestripe.faults import AFTER, BEFORE, Fault, Faults
from tests.fakestripe.gate import Gate
from tests.fakestripe.world import PLATFORM, ApiRefusal, Json, World

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

ROUTES: dict[tuple[str, str], Handler] = (
    accounts.ROUTES | payments.ROUTES | invoices.ROUTES | moves.ROUTES | disputes.ROUTES
)
V1_KEY_LIFE_S = 24 * 3600
V2_KEY_LIFE_S = 30 * 24 * 3600


class Hangup(Exception):
    """The connection is to be cut without an answer."""


@dataclass(slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int]


@dataclass(slots=True)
class Answer:
    """What goes back; `cut` sends half of it and closes."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang_up: bool = False

    @classmethod
    def of(cls, status: int, body: Json, **headers: str) -> Answer:
        """An answer whose body is a JSON document."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(body).encode(), named)


def _error(refusal: ApiRefusal) -> Answer:
    return Answer.of(refusal.status, {"error": refusal.body})


def match_route(method: str, path: str) -> tuple[str, tuple[str, ...]] | None:
    """The described path that a concrete path spells, and the ids in it."""
    parts = path.strip("/").split("/")
    for known, template in ROUTES:
        pattern = template.strip("/").split("/")
        if known != method or len(pattern) != len(parts):
            continue
        ids = [part for part, name in zip(parts, pattern, strict=True) if name.startswith("{")]
        fixed = all(
            part == name
            for part, name in zip(parts, pattern, strict=True)
            if not name.startswith("{")
        )
        if fixed:
            return template, tuple(ids)
    return None


class Pace:
    """Counts writes by second and operation; beyond what Stripe documents it takes no more.

    The allowance is Stripe's default for one endpoint, 25 a second.
    """

    def __init__(self) -> None:
        self.allowed = self.refused = self.busiest = 0
        self._seconds: dict[tuple[str, int], int] = {}
        self.forget()

    def forget(self) -> None:
        """Begin to count again, with the documented allowance."""
        self.allowed, self.refused, self.busiest = 25, 0, 0
        self._seconds.clear()

    def takes(self, operation: str, at: float) -> bool:
        """Whether one more write in this second is allowed."""
        key = (operation, int(at))
        count = self._seconds.get(key, 0) + 1
        if count > self.allowed:
            self.refused += 1
            return False
        if len(self._seconds) > 10_000:
            self._seconds.clear()
        self._seconds[key] = count
        self.busiest = max(self.busiest, count)
        return True


class FakeStripeApp:
    """Serves one world; a single thread runs everything, so each request is one step."""

    def __init__(self, world: World, gate: Gate, deliverer: Deliverer, tape: Path | None) -> None:
        self.world = world
        self.gate = gate
        self.deliverer = deliverer
        self.faults = Faults()
        self.tape = tape
        self.in_flight: set[str] = set()
        self.revoked: set[str] = set()
        self.transports: dict[tuple[str, int], asyncio.Transport] = {}
        self.requests = 0
        self.pace = Pace()
        self.last_headers: dict[str, str] = {}
        self.withhold = ""
        self.withheld = 0
        self.before_withholding = 0
        self._background: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked = Asked(
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode(),
            headers={k.decode().lower(): v.decode("latin-1") for k, v in scope["headers"]},
            body=body,
            peer=tuple(scope["client"]),
        )
        if asked.path.startswith("/_"):
            answer = await control.answer(self, asked)
        else:
            answer = await self.api(asked)
        await self._reply(asked, answer, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._background = [
                    asyncio.create_task(self.deliverer.run()),
                    asyncio.create_task(self._keep_time()),
                ]
                await send({"type": "lifespan.startup.complete"})
            else:
                for task in self._background:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _keep_time(self) -> None:
        while True:
            if not self.tick():
                await asyncio.sleep(0.01)

    def tick(self) -> bool:
        """Let one thing happen whose time has come; False when there is none."""
        due = self.world.pop_due()
        if due is None:
            return False
        action, subject = due
        {
            "settle": payments.settle,
            "collect": payments.collect,
            "payout": moves.start_payout,
            "payout_sent": moves.send_payout,
            "payout_paid": moves.finish_payout,
        }[action](self.world, subject)
        self.world.save()
        return True

    async def _reply(self, asked: Asked, answer: Answer, send: Send) -> None:
        if answer.hang_up:
            self._cut(asked)
            return
        headers = {"content-type": "application/json", **answer.headers}
        headers["content-length"] = str(len(answer.body))
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})
        if answer.cut:
            half = answer.body[: len(answer.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            await asyncio.sleep(0.05)
            self._cut(asked)
            return
        await send({"type": "http.response.body", "body": answer.body})

    def _cut(self, asked: Asked) -> None:
        """End the connection without a word, unless the caller has done so."""
        transport = self.transports.get(asked.peer)
        if transport is not None:
            transport.abort()

    async def api(self, asked: Asked) -> Answer:
        """Answer one request to Stripe's API, and write it to the tape."""
        self.requests += 1
        self.last_headers = asked.headers
        answer = await self._api(asked)
        answer.headers.setdefault("request-id", f"req_{self.world.run}{self.requests:06d}")
        answer.headers.setdefault("stripe-version", asked.headers.get("stripe-version", ""))
        if self.tape is not None:
            line = {
                "at": self.world.now(),
                "method": asked.method,
                "path": asked.path,
                "query": asked.query,
                "key": asked.headers.get("idempotency-key", ""),
                "account": asked.headers.get("stripe-account", ""),
                "body_sha256": hashlib.sha256(asked.body).hexdigest(),
                "body": asked.body.decode("utf-8", "replace"),
                "status": 0 if answer.hang_up else answer.status,
                "answer": answer.body.decode("utf-8", "replace"),
            }
            with self.tape.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
        await self._keep_back(asked)
        return answer

    async def _keep_back(self, asked: Asked) -> None:
        """Keep an answer to what was done until the wish to is taken back: its caller may die."""
        found = match_route(asked.method, asked.path)
        if found is None or f"{asked.method.lower()} {found[0]}" != self.withhold:
            return
        if self.before_withholding:
            self.before_withholding -= 1
            return
        self.withheld += 1
        while self.withhold:
            await asyncio.sleep(0.01)

    async def _api(self, asked: Asked) -> Answer:
        found = match_route(asked.method, asked.path)
        if found is None:
            missing = f"Unrecognized request URL ({asked.method}: {asked.path})."
            self.gate.complaints.append(
                {"path": asked.path, "field": "", "complaint": f"{missing} Not served here."}
            )
            return _error(ApiRefusal(404, "invalid_request_error", missing))
        template, ids = found
        key = asked.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not key.startswith("sk_test_") or key in self.revoked:
            return _error(ApiRefusal(401, "invalid_request_error", "Invalid API Key provided."))
        operation = f"{asked.method.lower()} {template}"
        is_json = template.startswith("/v2/") and asked.method == "POST"
        try:
            params = self.gate.typed(operation, asked.body, asked.query, is_json)
        except ValueError as error:
            self.gate.complaints.append(
                {"path": asked.path, "field": "", "complaint": f"unreadable body: {error}"}
            )
            return _error(ApiRefusal(400, "invalid_request_error", "The body cannot be read."))
        complaint = self.gate.check(operation, asked.path, params, asked.headers)
        if complaint:
            return _error(
                ApiRefusal(
                    400,
                    "invalid_request_error",
                    f"Received an invalid request. {complaint}",
                    code="parameter_unknown",
                    param=complaint.split(":", 1)[0],
                )
            )
        account = asked.headers.get("stripe-account") or PLATFORM
        if account != PLATFORM and account not in self.world.objects.get("account", {}):
            return _error(ApiRefusal(403, "invalid_request_error", f"No access to '{account}'."))
        if self.faults.forbids(operation):
            return _error(ApiRefusal(403, "invalid_request_error", "This key may not do that."))
        call = Call(asked.method, template, ids, params, account)
        if asked.method != "POST":
            return await self._perform(asked, call, None)
        if not self.pace.takes(operation, self.world.now()):
            answer = _error(
                ApiRefusal(429, "invalid_request_error", "Too many requests", code="rate_limit")
            )
            answer.headers["retry-after"] = "1"
            return answer
        return await self._once_per_key(asked, call)

    async def _once_per_key(self, asked: Asked, call: Call) -> Answer:
        """v1 keeps the first answer for a key, errors too; v2 does failed work again."""
        world = self.world
        key = f"{call.account} {asked.headers['idempotency-key']}"
        mark = hashlib.sha256(
            f"{asked.method} {asked.path} {call.account} ".encode() + asked.body
        ).hexdigest()
        if key in self.in_flight:
            return _error(
                ApiRefusal(
                    409,
                    "idempotency_error" if call.template.startswith("/v2/") else "api_error",
                    "There is currently another in-progress request using this key.",
                    code="idempotency_key_in_use",
                )
            )
        kept = world.keys.get(key)
        life = V2_KEY_LIFE_S if call.template.startswith("/v2/") else V1_KEY_LIFE_S
        if kept is not None and world.now() - kept["at"] >= life:
            del world.keys[key]
            kept = None
        if kept is not None:
            if kept["mark"] != mark:
                return _error(
                    ApiRefusal(
                        400,
                        "idempotency_error",
                        "Keys for idempotent requests can only be used with the same parameters "
                        "they were first used with.",
                    )
                )
            if not call.template.startswith("/v2/") or kept["status"] < 400:
                return Answer(
                    kept["status"], kept["body"].encode(), {"idempotent-replayed": "true"}
                )
        self.in_flight.add(key)
        try:
            return await self._perform(asked, call, (key, mark))
        finally:
            self.in_flight.discard(key)

    async def _perform(self, asked: Asked, call: Call, key: tuple[str, str] | None) -> Answer:
        fault = self.faults.strike(call.operation)
        if fault is not None and fault.kind in BEFORE:
            early = await self._go_wrong_before(fault, key)
            if early is not None:
                return early
        answer = self._execute(call, key)
        if fault is not None and fault.kind in AFTER:
            # Asked again with the key, v2 finishes what it had begun and makes nothing twice.
            # Source: Stripe, API v2 overview, idempotency.
            kept = None if call.template.startswith("/v2/") else key
            return await self._go_wrong_after(fault, answer, kept)
        return answer

    def _keep(self, key: tuple[str, str] | None, status: int, body: bytes) -> None:
        if key is not None:
            self.world.keys[key[0]] = {
                "mark": key[1],
                "status": status,
                "body": body.decode(),
                "at": self.world.now(),
            }
        self.world.save()

    def _execute(self, call: Call, key: tuple[str, str] | None) -> Answer:
        handler = ROUTES[call.method, call.template]
        try:
            body = handler(self.world, call)
        except ApiRefusal as refusal:
            answer = _error(refusal)
        except InsufficientFunds as short:
            answer = _error(
                ApiRefusal(
                    400,
                    "invalid_request_error",
                    "You have insufficient available funds in your Stripe account. "
                    f"Held {short.held}, wanted {short.wanted}.",
                    code="balance_insufficient",
                )
            )
        else:
            answer = Answer.of(200, body)
            self.gate.check_answer(call.operation, 200, body)
        if key is not None:
            self._keep(key, answer.status, answer.body)
        return answer

    async def _go_wrong_before(self, fault: Fault, key: tuple[str, str] | None) -> Answer | None:
        """The answer that takes the place of the work, or None when the work is still done."""
        if fault.kind == "slow":
            await asyncio.sleep(fault.delay_s)
            return None
        if fault.kind == "timeout_before":
            await asyncio.sleep(fault.delay_s)
        if fault.kind in ("timeout_before", "drop_before"):
            return Answer(0, b"", hang_up=True)
        if fault.kind == "502_html":
            return Answer(
                502, b"<html><h1>502 Bad Gateway</h1></html>", {"content-type": "text/html"}
            )
        if fault.kind == "500_before":
            answer = _error(ApiRefusal(500, "api_error", "An unknown error occurred"))
            self._keep(key, answer.status, answer.body)
            return answer
        ready = {
            "401": ApiRefusal(401, "invalid_request_error", "Invalid API Key provided."),
            "402": ApiRefusal(402, "invalid_request_error", fault.message, code=fault.code),
            "409": ApiRefusal(
                409, "api_error", "Another request holds this key.", code="idempotency_key_in_use"
            ),
            "mismatch": ApiRefusal(
                400, "idempotency_error", "This key was first used with other parameters."
            ),
            "429": ApiRefusal(429, "invalid_request_error", "Too many requests", code="rate_limit"),
            "lock_timeout": ApiRefusal(
                429,
                "invalid_request_error",
                "This object cannot be accessed right now because another request is using it.",
                code="lock_timeout",
            ),
            "refuse": ApiRefusal(
                fault.status, "invalid_request_error", fault.message, code=fault.code
            ),
        }
        answer = _error(ready[fault.kind])
        if fault.kind == "429":
            if fault.should_retry:
                answer.headers["stripe-should-retry"] = fault.should_retry
            if fault.retry_after:
                answer.headers["retry-after"] = fault.retry_after
        if fault.kind in ("402", "refuse"):
            self._keep(key, answer.status, answer.body)
        return answer

    async def _go_wrong_after(
        self, fault: Fault, answer: Answer, key: tuple[str, str] | None
    ) -> Answer:
        if fault.kind == "timeout_after":
            await asyncio.sleep(fault.delay_s)
            return Answer(0, b"", hang_up=True)
        if fault.kind == "drop_after":
            return Answer(0, b"", hang_up=True)
        if fault.kind == "cut_body":
            answer.cut = True
            return answer
        failed = _error(ApiRefusal(500, "api_error", "An unknown error occurred"))
        self._keep(key, failed.status, failed.body)
        return failed


def query_of(asked: Asked) -> dict[str, str]:
    """The last value of each query parameter, for the stand-in's own paths."""
    return {name: values[-1] for name, values in parse_qs(asked.query).items()}
