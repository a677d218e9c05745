"""The SQL of moves: how one is written, and how every history is folded to the state it tells."""

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, BigInteger, DateTime, Table, Text, TextClause, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

_EVENT = (
    *("event_id", "type", "subject_id", "at", "organisation_id", "person_id", "actor_id"),
    *("cause", "data", "subject_version"),
)
_HISTORY = (
    *("id", "machine", "subject_id", "from_state", "to_state", "action", "at", "actor_id"),
    *("reason_code", "note", "event_id", "evidence"),
)
# A version that was not the one read means that the caller did not hold the row after all.
_MOVED = (
    "moved as (update {table} set {set_to}"
    " where id = :subject_id and version = :new_version - 1 returning id)"
)

_TYPES: dict[str, TypeEngine[Any]] = {
    **dict.fromkeys(
        ("id", "subject_id", "actor_id", "event_id", "organisation_id", "person_id"), Uuid()
    ),
    "at": DateTime(timezone=True),
    "data": JSONB(),
    "evidence": ARRAY(Text()),
    "subject_version": BigInteger(),
}


@functools.cache
def move_statement(table: Table, columns: tuple[str, ...], *, is_told: bool) -> TextClause:
    """The statement that takes a move: its history, the event if it is told, and the change of the
    row, unless the row was written already: then no columns are named.

    It writes one row of history, or none where the row is gone or not as it was read.
    """
    history = [name for name in _HISTORY if is_told or name != "event_id"]
    parts = []
    source = ""
    if columns:
        set_to = ", ".join(f"{name} = :new_{name}" for name in columns)
        parts.append(_MOVED.format(table=table.fullname, set_to=set_to))
        source = " from moved"
    if is_told:
        told = ", ".join(("id", *_EVENT[1:]))
        parts.append(
            f"told as (insert into market.event ({told}) select {_values(_EVENT)}{source})"
        )
    statement = (
        f"{'with ' + ', '.join(parts) if parts else ''} insert into market.state_change"
        f" ({', '.join(history)}) select {_values(history)}{source}"
    )
    used = {*history, *(_EVENT if is_told else ())}
    return text(statement).bindparams(
        *(bindparam(name, type_=_TYPES.get(name, Text())) for name in used),
        *(bindparam(f"new_{name}", type_=table.c[name].type) for name in columns),
    )


def _values(names: Sequence[str]) -> str:
    # A select of parameters knows no types, as a list of values would.
    kinds = {
        "data": "jsonb",
        "at": "timestamptz",
        "subject_version": "bigint",
        "evidence": "text[]",
    }
    return ", ".join(
        f"cast(:{name} as {kinds.get(name) or ('uuid' if name in _TYPES else 'text')})"
        for name in names
    )


_GUARDED = text(
    """
    select distinct c.relname as table_name,
        convert_from(rtrim(t.tgargs, '\\000'::bytea), 'UTF8') as machine
    from pg_trigger t join pg_class c on c.oid = t.tgrelid
    join pg_namespace n on n.oid = c.relnamespace join pg_proc p on p.oid = t.tgfoid
    where p.proname = 'guard_state' and n.nspname = 'market'
    order by 1
    """
)

_UNFOLDED = """
    with move as (
        select subject_id, from_state, to_state,
            lag(to_state) over told as before,
            row_number() over told as nth,
            row_number() over (partition by subject_id order by id desc) as nth_last
        from market.state_change where machine = :machine
        window told as (partition by subject_id order by id)
    ), broken as (
        select subject_id, 'moved from ' || from_state || ' while it was ' || before as fault
        from move where before is distinct from from_state and nth > 1
        union all
        select subject_id, 'began as ' || from_state || ', which is no start'
        from move where nth = 1 and from_state <> '' and not exists (
            select from market.state_rule
            where machine = :machine and from_state = '' and to_state = move.from_state
        )
        union all
        select s.id, 'is ' || s.state || ' while its last move led to ' || move.to_state
        from move join market.{table} s on s.id = move.subject_id
        where move.nth_last = 1 and s.state <> move.to_state
        union all
        select s.id, 'is ' || s.state || ' and nothing says how'
        from market.{table} s
        where not exists (select from move where move.subject_id = s.id) and not exists (
            select from market.state_rule
            where machine = :machine and from_state = '' and to_state = s.state
        )
    )
    select subject_id, fault from broken order by subject_id limit :limit
"""


def unfolded(session: Session, *, limit: int = 100) -> list[str]:
    """Where the history of a state does not lead to it, a sentence each: there must be none.

    Every machine that guards a table is folded: each move starts where the last one ended, the
    first one where its machine may start, and the last one ends in the state of the row.
    """
    found: list[str] = []
    for table, machine in session.execute(_GUARDED):
        rows = session.execute(
            # A name out of the catalogue, which no caller chose.
            text(_UNFOLDED.format(table=table)),
            {"machine": machine, "limit": limit},
        )
        found += [f"{machine} {subject} {fault}" for subject, fault in rows]
    return found
