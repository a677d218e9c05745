"""The one place where accesses are noted: around everything that answers, before it answers.

An answer to ops, a lab or a reviewer that tells of people does not leave before the audit log says
so; a read that cannot be noted is refused. A change by ops is noted when it is asked for, before it
happens (`announce`), and once more with how it ended.
"""

from typing import Any
from uuid import UUID

import anyio.to_thread
import structlog
from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    HTTPResponseBodyEvent,
    HTTPResponseStartEvent,
    HTTPScope,
    Message,
    Receive,
    Scope,
    Send,
)
from sqlalchemy.exc import SQLAlchemyError

from market.audit.actions import note_access
from market.audit.rules import CARRIED, Access, Asked, people_in
from market.auth import Part, Principal, people_told_of
from market.db import PLATFORM, database, now

log = structlog.get_logger(__name__)

READS = ("GET", "HEAD")
REFUSED = (
    b'{"type":"/problems/read_unnoted","title":"The read cannot be noted","status":503,'
    b'"detail":"the audit log cannot be written now, and personal data is not given out without;'
    b' try again shortly","code":"read_unnoted","retryable":true}'
)


def _asked(scope: HTTPScope) -> Asked | None:
    principal: Principal | None = scope.get("state", {}).get("principal")
    if principal is None:
        return None
    return Asked(
        principal=principal,
        method=scope["method"],
        route=str(scope.get("path_template") or scope["path"]),
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        request_id=scope["state"].get("request_id", ""),
    )


def announce(scope: Any) -> None:
    """Note that ops ask for a change, before it happens; whoever asks for anything else is not
    noted here. It stands in a transaction of its own, so that what fails was asked for too.
    """
    asked = _asked(scope)
    if asked is None or asked.method in READS or asked.principal.part is not Part.OPS:
        return
    with database.begin(PLATFORM) as session:
        note_access(session, asked, Access.ASKED, at=now())


def _note(asked: Asked, kind: Access, status: int, people: set[UUID]) -> None:
    with database.begin(PLATFORM) as session:
        note_access(session, asked, kind, at=now(), status=status, people=people)


class Witness:
    """Holds each answer back until what it tells of whom is written down."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        told: set[UUID] = set()
        people_told_of.set(told)
        await self.app(scope, receive, _Answer(scope, send, told).send)


class _Answer:
    def __init__(self, scope: HTTPScope, send: Send, told: set[UUID]) -> None:
        self._scope, self._send, self._told = scope, send, told
        self._held: Message | None = None
        self._status = 200
        self._asked: Asked | None = None
        self._tail = b""
        self._known: set[UUID] = set()
        self._is_refused = False

    async def send(self, message: Message) -> None:
        """Pass one part of the answer on, when it is noted."""
        if self._is_refused:
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._asked = self._watched()
            if self._asked is None:
                await self._send(message)
            else:
                self._held = message
            return
        if self._asked is not None and message["type"] == "http.response.body":
            if not await self._noted(self._asked, message["body"]):
                return
            if self._held is not None:
                start, self._held = self._held, None
                await self._send(start)
        await self._send(message)

    def _watched(self) -> Asked | None:
        asked = _asked(self._scope)
        if asked is None or asked.principal.part is Part.EXPERT:
            return None
        if asked.method in READS:
            return asked if self._status < 300 else None
        return asked if asked.principal.part is Part.OPS else None

    async def _noted(self, asked: Asked, chunk: bytes) -> bool:
        """Whether this part of the answer may leave."""
        is_first = self._held is not None
        people = people_in(self._tail + chunk) | self._told
        people -= {asked.principal.person_id, *self._known}
        self._tail = chunk[-CARRIED:]
        is_read = asked.method in READS
        if not people and (is_read or not is_first):
            return True
        self._known |= people
        kind = Access.READ if is_read else Access.DONE
        try:
            await anyio.to_thread.run_sync(_note, asked, kind, self._status, people)
        except SQLAlchemyError as lost:
            log.error("audit.unwritten", path=asked.path, error=str(lost).splitlines()[0][:200])
            # A change was noted when it was asked for, and has happened.
            return True if not is_read else await self._refuse(is_first)
        return True

    async def _refuse(self, is_first: bool) -> bool:
        self._is_refused = True
        if not is_first:
            # Half of a stream is out: it ends here, cut.
            raise ConnectionAbortedError("the audit log cannot be written")
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(REFUSED)).encode()),
            (b"retry-after", b"1"),
        ]
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": 503,
            "headers": headers,
        }
        body: HTTPResponseBodyEvent = {
            "type": "http.response.body",
            "body": REFUSED,
            "more_body": False,
        }
        await self._send(start)
        await self._send(body)
        return False
