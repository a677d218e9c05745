"""The processes that are killed: forked, one for each crash, from one that has imported everything.

`python -m tests.chaos.money_process` reads one command a line. Its child does what a process of the
house does (plan, send, relay, take a webhook in, apply it, reconcile), by the same functions, comes
to the point that it was told, says `held` and never goes on: then it is killed by SIGKILL. Being
forked it costs milliseconds, and it is a process of its own in everything that a crash takes away.
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn
from uuid import UUID

import msgspec
import uvicorn
from litestar import Litestar
from sqlalchemy import Insert, Update, event
from sqlalchemy.orm import ORMExecuteState, Session, configure_mappers

from market import relay
from market.app import create_app
from market.auth import keyring
from market.broker import open_broker
from market.db import database
from market.events import EventRow
from market.feeds import publish
from market.settings import Settings, in_force
from payouts.calls import Fact, due_calls
from payouts.gateway import Gateway
from payouts.inbox import due_events
from payouts.models import ExternalCall, StripeEvent
from payouts.proof_models import PullMark
from payouts.reconciliation import reconcile
from payouts.sender import run_call, send_transfers
from payouts.states import CallState, InboxState
from payouts.webhooks import apply_event
from tests.chaos.money_writes import UNHURRIED, Order, plan, tell
from tests.payouts.scene import AT_ONCE

LEASED, ANSWERED, STORED, RELAYED, APPLIED, PULLED, ANY = (
    "leased",
    "answered",
    "stored",
    "relayed",
    "applied",
    "pulled",
    "any",
)
"""What a transaction did, by which the one is found to stop at."""


TRANSFERS_AT_ONCE = 2
"""So that a batch of three is sent in two parts, and one can die between them."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is: what the processes of a run have in common."""

    database_url: str
    stripe_url: str
    api_key: str
    secret: str
    thin_secret: str


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What a process does, and where it stops: before or after the nth commit that did `mark`."""

    act: str
    place: Place
    passed_s: float = 0.0
    at_once: int = TRANSFERS_AT_ONCE
    mark: str = ""
    is_before: bool = False
    nth: int = 1
    orders: tuple[Order, ...] = ()
    owners: tuple[UUID, ...] = ()


_HEARD = os.dup(1)
"""Where commands are answered: nothing that a process logs comes between."""


def say(word: str) -> None:
    """One line to whoever gave the command; unbuffered, as the next moment may be the last."""
    os.write(_HEARD, f"{word}\n".encode())


def stop_here() -> NoReturn:
    """Say so, and wait to be killed."""
    say("held")
    threading.Event().wait()
    raise AssertionError("nobody killed this process")


class Trap:
    """Watches every transaction of this process and stops in the one that was named."""

    def __init__(self, mark: str, nth: int, *, is_before: bool) -> None:
        self._mark, self._left, self._is_before = mark, nth, is_before

    def set(self) -> None:
        """Begin to watch."""
        event.listen(Session, "do_orm_execute", self._executing)
        event.listen(Session, "after_flush", self._flushed)
        event.listen(Session, "before_commit", self._committing)
        event.listen(Session, "after_commit", self._committed)

    @staticmethod
    def _executing(state: ORMExecuteState) -> None:
        statement = state.statement
        if isinstance(statement, Insert | Update):
            table = statement.table
            found = {
                StripeEvent.__table__: STORED,
                EventRow.__table__: RELAYED if isinstance(statement, Update) else "",
                PullMark.__table__: PULLED,
            }.get(table)
            if found:
                _marks(state.session).add(found)

    @staticmethod
    def _flushed(session: Session, _context: object) -> None:
        for row in session.dirty:
            if isinstance(row, ExternalCall):
                is_sent = row.state == CallState.SENT
                _marks(session).add(LEASED if is_sent and row.leased_until else "later")
                if row.state in (CallState.CONFIRMED, CallState.REFUSED, CallState.UNKNOWN):
                    _marks(session).add(ANSWERED)
            elif isinstance(row, StripeEvent) and row.state != InboxState.PARKED:
                _marks(session).add(APPLIED)

    def _committing(self, session: Session) -> None:
        if not session.in_nested_transaction():
            session.flush()
            if self._is_before:
                self._come(session)

    def _committed(self, session: Session) -> None:
        if not session.in_nested_transaction():
            if not self._is_before:
                self._come(session)
            _marks(session).clear()

    def _come(self, session: Session) -> None:
        if self._mark == ANY or self._mark in _marks(session):
            self._left -= 1
            if self._left == 0:
                stop_here()


def _marks(session: Session) -> set[str]:
    marks: set[str] = session.info.setdefault("did", set())
    return marks


class Hands:
    """One process at work, on a clock that is as far ahead as the driver's."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._passed = timedelta(seconds=command.passed_s)
        place = command.place
        self._gateway = Gateway(api_key=place.api_key, base_url=place.stripe_url, timeout_s=60)

    def now(self) -> datetime:
        """The time here."""
        return datetime.now(UTC) + self._passed

    def tell(self, session: Session, facts: Sequence[Fact]) -> None:
        """Keep what happened in the outbox."""
        tell(session, facts, self.now)

    def plan(self) -> None:
        """Ask for everything in one transaction."""
        with database.begin() as session:
            for order in self._command.orders:
                plan(session, order, self.now)

    def send(self) -> None:
        """Make every call that is due, as the sweep does: planned transfers first, together."""
        while send_transfers(
            database.begin,
            self._gateway,
            now=self.now,
            tell=self.tell,
            policy=AT_ONCE,
            rate=UNHURRIED,
            limit=self._command.at_once,
        ):
            pass
        with database.begin() as session:
            due = due_calls(session, self.now())
        for call_id in due:
            run_call(
                database.begin,
                self._gateway,
                call_id,
                now=self.now,
                tell=self.tell,
                policy=AT_ONCE,
                rate=UNHURRIED,
            )

    def relay(self) -> None:
        """Publish what happened and queue what follows."""
        with database.begin() as session:
            publish(session, at=self.now())
        broker = open_broker(in_force.settings)
        relay.relay_batch(broker, at=self.now())

    def serve(self) -> None:
        """Take webhooks in over HTTP, by the whole application."""
        assert _APP is not None
        config = uvicorn.Config(_APP, port=0, log_level="critical")
        server = uvicorn.Server(config)

        def tell_port() -> None:
            while not server.started:
                threading.Event().wait(0.01)
            say(f"listening {server.servers[0].sockets[0].getsockname()[1]}")

        threading.Thread(target=tell_port, daemon=True).start()
        server.run()

    def apply(self) -> None:
        """Do what follows from the webhooks that are due."""
        with database.begin() as session:
            due = due_events(session, self.now(), limit=1000)
        for event_id in due:
            apply_event(
                database.begin,
                self._gateway,
                event_id,
                now=self.now,
                tell=self.tell,
                policy=AT_ONCE,
            )

    def reconcile(self) -> None:
        """Compare every line at Stripe with the books."""
        reconcile(database.begin, self._gateway, now=self.now, owners=self._command.owners)


_SECRET = "a secret for the tests that is long enough"
_APP: Litestar | None = None
"""The web application, made before the forks, as making it takes the longest."""


def _work(command: Command) -> None:
    """The life of a forked process."""
    place = command.place
    in_force.open(
        Settings(
            database_url=place.database_url,
            secret_key=_SECRET,
            stripe_key=place.api_key,
            stripe_base_url=place.stripe_url,
            stripe_webhook_secret=place.secret,
            stripe_thin_secret=place.thin_secret,
        )
    )
    keyring.open(in_force.settings.secret_key)
    database.open(place.database_url, pool_size=4)
    hands = Hands(command)
    acts: dict[str, Callable[[], None]] = {
        "plan": hands.plan,
        "send": hands.send,
        "relay": hands.relay,
        "serve": hands.serve,
        "apply": hands.apply,
        "reconcile": hands.reconcile,
    }
    if command.mark:
        Trap(command.mark, command.nth, is_before=command.is_before).set()
    acts[command.act]()


def main() -> None:
    """Fork a process for each command, and say what became of it."""
    global _APP
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    configure_mappers()
    _APP = create_app(in_force.open(Settings(database_url="unused", secret_key=_SECRET)))
    for line in sys.stdin:
        command = msgspec.json.decode(line, type=Command)
        pid = os.fork()
        if pid == 0:
            code = 0
            say(f"began {os.getpid()}")
            try:
                _work(command)
            except BaseException:
                traceback.print_exc()
                code = 1
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
