"""The database: one handle, one base class, and a transaction that knows who asks.

Every transaction takes a PostgreSQL role before its first statement. Labs, experts and reviewers
get roles that see only the rows of their own tenant, by row level security, so that a query which
forgets its condition returns too little and never too much.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, dataclass_transform
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import (
    BigInteger,
    Connection,
    DateTime,
    Engine,
    MetaData,
    Text,
    create_engine,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolIsEmpty
from sqlalchemy.orm import DeclarativeBase, MappedAsDataclass, Session, mapped_column
from sqlalchemy.orm.util import identity_key
from uuid_utils.compat import uuid7

from market.cursors import LeanCursor

WAIT_S = 15
"""How long a transaction waits for a connection before it is refused."""

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

Json = dict[str, Any]
"""A JSON document as PostgreSQL keeps it; its shape is checked at the edge that lets it in."""


def new_id() -> UUID:
    """A time-ordered id (UUID version 7), so that the order of ids is the order of creation."""
    return uuid7()


def made_at(identifier: UUID) -> datetime:
    """When an id of ours was made, to the millisecond; it stands in the id's first 48 bits."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)


def first_id(at: datetime) -> UUID:
    """The least id that can have been given at a time, so that the primary key finds the rest."""
    return UUID(int=max(int(at.timestamp() * 1000), 0) << 80)


def now() -> datetime:
    """The time, with its zone; for entry points only."""
    return datetime.now(UTC)


# What `kw_only` does is not inherited in the eyes of a type checker, so it is told once more.
@dataclass_transform(kw_only_default=True, field_specifiers=(mapped_column,))
class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """A table of the schema `market`; rows are dataclasses."""

    metadata = MetaData(schema="market", naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        int: BigInteger(),
        datetime: DateTime(timezone=True),
        Json: JSONB(),
    }


@dataclass(frozen=True, slots=True)
class Scope:
    """As whom a transaction runs: a PostgreSQL role, and the tenant whose rows it may see."""

    role: str
    tenant: UUID | None = None


PLATFORM = Scope("stumpwork_platform")
NOBODY = Scope("stumpwork_lab", UUID(int=0))
"""Sees no row at all: what a request without a key runs as."""

current_scope: ContextVar[Scope] = ContextVar("current_scope", default=PLATFORM)
"""Who asks; the web sets it for each request, jobs and commands run as the platform."""

current_cause: ContextVar[str | None] = ContextVar("current_cause", default=None)
"""What led to this work: the id of a request, or of the event that a job follows."""

_ambient: ContextVar[Session | None] = ContextVar("ambient_session", default=None)

_TAKE_ROLE = text(
    "select set_config('role', :role, true), set_config('stumpwork.tenant', :tenant, true)"
)


def take_scope(session: Session, scope: Scope) -> None:
    """Make the rest of this transaction run as `scope`."""
    session.execute(
        _TAKE_ROLE, {"role": scope.role, "tenant": str(scope.tenant) if scope.tenant else ""}
    )
    session.info["scope"] = scope


def _begin_ourselves(connection: psycopg.Connection, _record: object) -> None:
    # The driver sends no BEGIN of its own, so that ours can carry the role in the same trip.
    connection.autocommit = True


def _begin(connection: Connection) -> None:
    scope: Scope | None = connection.get_execution_options().get("scope")
    if scope is None:
        connection.exec_driver_sql("begin")
        return
    # Written out, because only statements without parameters can share a trip; a role is one of
    # ours, and a tenant a UUID.
    connection.exec_driver_sql(
        f"begin; set local role {scope.role}; set local stumpwork.tenant = '{scope.tenant or ''}'"
    )


@contextmanager
def run_as(session: Session, scope: Scope) -> Iterator[None]:
    """Run a block of a transaction as somebody else, and go on as who it was.

    For what one side may not read of the other, but is told in part. A second transaction for it
    would want a second connection while it holds the first, and so would all who come with it.
    """
    before: Scope = session.info["scope"]
    if before == scope:
        yield
        return
    session.flush()
    take_scope(session, scope)
    try:
        yield
        session.flush()
    finally:
        # Whoever catches what was raised here goes on as who it was. What PostgreSQL itself has
        # refused takes no statement; there the way back is one to before the role.
        if _takes_statements(session):
            take_scope(session, before)
        else:
            session.info["scope"] = before


def _takes_statements(session: Session) -> bool:
    if not session.is_active or session.connection().invalidated:
        return False
    driver = session.connection().connection.driver_connection
    return (
        isinstance(driver, psycopg.Connection)
        and driver.info.transaction_status == TransactionStatus.INTRANS
    )


def forget(session: Session, kind: type[Base], row_id: UUID) -> None:
    """Have a row that SQL of our own has changed be read again, when it is next looked at."""
    row = session.identity_map.get(identity_key(kind, row_id))
    if row is not None:
        session.expire(row)


# Connections that broke, a server that stops or starts, and one that is full (SQLSTATE).
_AWAY = ("08", "57P", "53")


def is_away(error: BaseException) -> bool:
    """Whether something failed because the database could not be reached, and may well succeed
    when it is back.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg.OperationalError):
        return isinstance(error, PoolIsEmpty) or (
            isinstance(error, DBAPIError) and error.connection_invalidated
        )
    # Without a state the server was not reached, or was gone before it could say why.
    return cause.sqlstate is None or cause.sqlstate.startswith(_AWAY)


class Turns:
    """Who may have a transaction open: so many threads at once, and the others in their order.

    A pool of connections alone lets whoever comes just then pass those who wait, so that under load
    a few wait until they are refused. A thread with a transaction open may open another at once:
    whoever waits for itself waits for ever.
    """

    def __init__(self, places: int, *, limit_s: float = WAIT_S) -> None:
        self._free = places
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._open: set[int] = set()

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._waiting)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a place, keep it for the block, and hand it to whoever waits the longest.

        Raises:
            PoolIsEmpty.
        """
        # Known by its number, because what a stream begins in one thread may end in another.
        thread = threading.get_ident()
        is_first = thread not in self._open
        if is_first:
            self._enter()
            self._open.add(thread)
        try:
            yield
        finally:
            if is_first:
                self._open.discard(thread)
                self._leave()

    def _enter(self) -> None:
        called = threading.Event()
        try:
            with self._lock:
                # A place that comes free while somebody waits is handed over and never counted as
                # free.
                if self._free:
                    self._free -= 1
                    return
                self._waiting.append(called)
            if called.wait(self._limit_s):
                return
        except BaseException:
            # A job whose time is over is interrupted here, and is not to be handed a place later.
            if not self._given_up(called):
                self._leave()
            raise
        # Called in the moment in which the wait was over, the place is ours after all.
        if self._given_up(called):
            raise PoolIsEmpty(f"no transaction could be opened within {self._limit_s} s")

    def _given_up(self, called: threading.Event) -> bool:
        """Wait no longer; False where the place was handed over meanwhile."""
        with self._lock:
            if called.is_set():
                return False
            if called in self._waiting:
                self._waiting.remove(called)
            return True

    def _leave(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1


class Database:
    """Where transactions come from; opened once by each process, before its first request."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._turns = Turns(1)
        self._pinned: Connection | None = None

    def open(self, url: str, *, pool_size: int = 8) -> None:
        """Prepare a pool of connections; none is made before it is needed."""
        self._engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=WAIT_S,
            pool_recycle=1800,
            connect_args={"cursor_factory": LeanCursor},
        )
        self._turns = Turns(2 * pool_size)
        event.listen(self._engine, "connect", _begin_ourselves)
        event.listen(self._engine, "begin", _begin)

    def close(self) -> None:
        """Give every connection back."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @property
    def engine(self) -> Engine:
        """The pool itself, for what is not a transaction: listening, health, migrations."""
        if self._engine is None:
            raise RuntimeError("the database is not open: call database.open(url) first")
        return self._engine

    def pin(self, connection: Connection | None) -> None:
        """Run every transaction as a savepoint of this connection's; `None` ends it. For tests."""
        self._pinned = connection

    @contextmanager
    def begin(self, scope: Scope | None = None) -> Iterator[Session]:
        """One transaction, committed when the block ends and rolled back when it raises.

        Without a scope it runs as whoever asks. Inside a unit of work (see `unit`) it joins that
        unit's transaction, under its own scope, and leaves the commit to the unit.
        """
        wanted = scope or current_scope.get()
        outer = _ambient.get()
        if outer is not None:
            try:
                with run_as(outer, wanted):
                    yield outer
            except BaseException:
                # A savepoint around it takes back what it wrote.
                if not outer.in_nested_transaction():
                    outer.info["is_half_done"] = True
                raise
            return
        turn = nullcontext() if self._pinned is not None else self._turns.turn()
        with turn, self._begun(wanted) as session:
            session.info["cause"] = current_cause.get()
            yield session
            if self._pinned is not None:
                session.flush()
                take_scope(session, PLATFORM)
            session.commit()

    @contextmanager
    def unit(self) -> Iterator[Session]:
        """A transaction that every `begin` inside it joins: all of it happens, or none.

        What a `begin` inside it raises ends the unit, unless it was caught around a savepoint of
        the unit's: nothing else takes back what that block had written.

        Raises:
            RuntimeError: somebody caught it, and went on.
        """
        with self.begin() as session:
            token = _ambient.set(session)
            try:
                yield session
            finally:
                _ambient.reset(token)
            if session.info.get("is_half_done"):
                raise RuntimeError("a block of this unit failed, and its failure was caught")

    def _begun(self, scope: Scope) -> Session:
        """A session in a transaction that runs as `scope`."""
        if self._pinned is not None:
            session = Session(
                self._pinned, expire_on_commit=False, join_transaction_mode="create_savepoint"
            )
            take_scope(session, scope)
            return session
        try:
            return self._opened(scope)
        except DBAPIError as lost:
            # A connection of the pool's that PostgreSQL has closed since it was last used; the pool
            # has let go of all that are as old, and nothing was done on this one.
            if not lost.connection_invalidated:
                raise
            return self._opened(scope)

    def _opened(self, scope: Scope) -> Session:
        session = Session(self.engine, expire_on_commit=False)
        try:
            session.connection(execution_options={"scope": scope})
        except BaseException:
            session.close()
            raise
        session.info["scope"] = scope
        return session


database = Database()
"""The process's database; closed until its entry point opens it."""
