"""How items come in, are flagged, and are decided upon; everything here runs as the platform."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import numpy as np
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.db import new_id
from market.events import Event, change_state, emit
from market.imports import (
    BulkImport,
    copied,
    copied_fault,
    copying,
    end_import,
    staging,
    start_import,
)
from market.item_banks.models import BankItem, Calibration, ItemFlag, ItemKey, ItemParameter
from market.item_banks.queries import item, key_of
from market.item_banks.rules import (
    DECISIONS,
    ITEM,
    ITEM_ROWS,
    MIN_NOTE,
    Fit,
    ItemRow,
    ItemUnfit,
    checked_row,
    content_digest,
    key_fault,
)
from market.uploads import Fault, Upload, read_rows

_STAGED = """
    line bigint, external_id text, code text, pointer text, detail text, id uuid, digest bytea,
    said jsonb
"""
_STAGED_COLUMNS = "line, external_id, code, pointer, detail, id, digest, said"

_TAKE = (
    """
    update {staged} s set code = 'duplicate_in_file', pointer = '/external_id',
        detail = 'line ' || first.line || ' is this item too'
    from (
        select min(line) as line, said ->> 'bank' as bank, external_id from {staged}
        where code is null group by 2, 3 having count(*) > 1
    ) first
    where s.code is null and s.said ->> 'bank' = first.bank
        and s.external_id = first.external_id and s.line > first.line
    """,
    """
    update {staged} s set code = 'version_skipped', pointer = '/version',
        detail = 'the next version of this item is ' || told.expected
    from (
        select w.line, coalesce(max(i.item_version), 0) + 1 as expected from {staged} w
        left join market.item_bank b on b.name = w.said ->> 'bank'
        left join market.bank_item i on i.bank_id = b.id and i.external_id = w.external_id
        group by 1
    ) told
    where told.line = s.line and s.code is null and (s.said ->> 'version')::bigint > told.expected
    """,
    """
    insert into market.item_bank (id, name, created_at, takers)
    select (left(cast(:import as text), 19) || substr(gen_random_uuid()::text, 20))::uuid,
        name, :at, 0
    from (select distinct said ->> 'bank' as name from {staged} where code is null) named
    on conflict do nothing
    """,
    """
    insert into market.bank_item (id, bank_id, external_id, item_version, prompt, choices, level,
        topic, limit_s, digest, created_at, slope, ease, answers, shown, state, version)
    select s.id, b.id, s.external_id, (said ->> 'version')::bigint, said ->> 'prompt',
        array(select jsonb_array_elements_text(said -> 'choices')), (said ->> 'level')::smallint,
        said ->> 'topic', (said ->> 'limit_s')::bigint, s.digest, :at,
        (said ->> 'slope')::float8, (said ->> 'ease')::float8, (said ->> 'answers')::bigint,
        0, 'active', 1
    from {staged} s join market.item_bank b on b.name = s.said ->> 'bank'
    where s.code is null and (said ->> 'version')::bigint > coalesce((
        select max(i.item_version) from market.bank_item i
        where i.bank_id = b.id and i.external_id = s.external_id), 0)
    order by s.line
    """,
    """
    insert into market.item_key (item_id, number, key, set_at, note)
    select s.id, 1, array(select jsonb_array_elements_text(said -> 'key')), :at, 'uploaded'
    from {staged} s join market.bank_item i on i.id = s.id
    """,
)

_REPLACED = """
    select i.id from market.bank_item i
    join market.bank_item n on n.bank_id = i.bank_id and n.external_id = i.external_id
        and n.item_version > i.item_version
    join {staged} s on s.id = n.id
    where i.state in ('active', 'flagged')
"""

_JUDGE = """
    insert into market.import_row (import_id, line, verdict, external_id, code, pointer, detail)
    select :import, line,
        case when code is not null then 'rejected' when is_new then 'created'
            when is_same then 'unchanged' else 'conflict' end,
        external_id,
        case when code is not null then code
            when not is_new and not is_same then 'content_differs' end,
        case when code is not null then pointer
            when not is_new and not is_same then '/version' end,
        case when code is not null then detail
            when not is_new and not is_same then 'this version is there with other content; send'
                || ' the item as version ' || newest + 1 end
    from (
        select s.*, coalesce(i.id = s.id, false) as is_new,
            coalesce(i.digest = s.digest, false) as is_same,
            (select max(n.item_version) from market.bank_item n
                where n.bank_id = b.id and n.external_id = s.external_id) as newest
        from {staged} s
        left join market.item_bank b on b.name = s.said ->> 'bank'
        left join market.bank_item i on i.bank_id = b.id and i.external_id = s.external_id
            and i.item_version = (s.said ->> 'version')::bigint
    ) judged
"""


def import_items(session: Session, upload: Upload, *, now: Callable[[], datetime]) -> BulkImport:
    """Take in the items of a file: each row that can be is an item, with its key and its bank.

    An item is never edited: the same version with other content is a conflict, and the next
    version takes the place of the one before, which is retired.

    Raises:
        ImportRunning, EncodingRefused, HeaderRefused, FileUnreadable.
    """
    at = now()
    started = start_import(session, "items", upload, at=at, organisation_id=None, project_id=None)
    values = {"import": started.id, "at": at}
    with staging(session, started.id, _STAGED) as staged:
        rows = 0
        with copying(session, staged, _STAGED_COLUMNS) as copy:
            for batch in read_rows(upload, ITEM_ROWS):
                rows += len(batch)
                copy.write("".join(_copied_row(line, row) for line, row in batch).encode())
        for statement in _TAKE:
            session.execute(text(statement.format(staged=staged)), values)
        session.execute(text(_JUDGE.format(staged=staged)), values)
        replaced = session.scalars(text(_REPLACED.format(staged=staged))).all()
        for item_id in replaced:
            _move(session, item(session, item_id, lock=True), "retire", "replaced", at=at)
    created = session.scalar(
        text(
            "select count(*) from market.import_row where import_id = :import"
            " and verdict = 'created'"
        ),
        values,
    )
    ended = now()
    end_import(session, started, rows=rows, created=created or 0, at=ended)
    emit(session, Event.ITEMS_IMPORTED, started.id, at=ended, data={"rows": rows})
    return started


def _copied_row(line: int, row: ItemRow | Fault) -> str:
    checked = row if isinstance(row, Fault) else checked_row(row)
    if isinstance(checked, Fault):
        return f"{copied_fault(line, checked)}\t\\N\t\\N\t\\N\n"
    cells = (
        str(line),
        copied(checked.external_id),
        "\\N\t\\N\t\\N",
        str(new_id()),
        f"\\\\x{content_digest(checked).hex()}",
        copied(msgspec.json.encode(checked).decode()),
    )
    return "\t".join(cells) + "\n"


# What looks wrong ---------------------------------------------------------------------------------


def raise_flag(
    session: Session,
    item_id: UUID,
    reason: str,
    detail: str,
    *,
    answers: int,
    at: datetime,
    person_id: UUID | None = None,
) -> bool:
    """Put an item before ops, once until it is decided; whether it is news.

    What the answers say takes the item out of every test until then; what one taker says does not,
    or anybody could empty a bank.
    """
    row = item(session, item_id, lock=True)
    made = session.scalar(
        insert(ItemFlag)
        .values(
            id=new_id(),
            item_id=item_id,
            reason=reason,
            detail=detail,
            at=at,
            answers=answers,
            person_id=person_id,
        )
        .on_conflict_do_nothing()
        .returning(ItemFlag.id)
    )
    if made is None:
        return False
    if person_id is None and row.state == "active":
        _move(session, row, "flag", reason, at=at)
    emit(
        session,
        Event.ITEM_FLAGGED,
        item_id,
        at=at,
        actor_id=person_id,
        data={"reason": reason, "answers": answers},
    )
    return True


def decide_item(
    session: Session,
    item_id: UUID,
    decision: str,
    *,
    note: str,
    key: Sequence[str] = (),
    at: datetime,
    actor_id: UUID | None = None,
) -> BankItem:
    """Keep an item as it is, give it the right key, or put it to nobody any more.

    With a new key, and with an item that is withdrawn, every sitting that had it is graded again.

    Raises:
        ItemNotFound, ItemUnfit, StateConflict.
    """
    if decision not in DECISIONS:
        raise ItemUnfit("decision", f"one of {', '.join(DECISIONS)}")
    if len(note.strip()) < MIN_NOTE:
        raise ItemUnfit("note", f"at least {MIN_NOTE} characters on what was found")
    if key and decision != "rekey":
        raise ItemUnfit("key", "given with rekey only")
    row = item(session, item_id, lock=True)
    if decision == "rekey":
        _rekey(session, row, key, note, at=at, actor_id=actor_id)
    elif decision != "keep" or row.state == "flagged":
        _move(session, row, decision, note, at=at, actor_id=actor_id)
        if decision == "withdraw":
            emit(session, Event.ITEM_WITHDRAWN, item_id, at=at, actor_id=actor_id)
    else:
        # Nothing but what takers say is against it; what they said is settled below.
        ITEM.target("flagged" if _open_flags(session, item_id) else row.state, "keep")
    for flag in _open_flags(session, item_id):
        flag.decision, flag.decided_at = decision, at
        flag.decided_by, flag.note = actor_id, note
    session.flush()
    return row


def _rekey(
    session: Session,
    row: BankItem,
    key: Sequence[str],
    note: str,
    *,
    at: datetime,
    actor_id: UUID | None,
) -> None:
    fault = key_fault(key, row.choices)
    if fault is not None:
        raise ItemUnfit("key", fault)
    if row.state == "withdrawn":
        # It counts for nobody, whatever its key.
        ITEM.target(row.state, "keep")
    before = key_of(session, row.id)
    if sorted(before.key) == sorted(key):
        raise ItemUnfit("key", "another than the one that it has")
    session.add(
        ItemKey(
            item_id=row.id,
            number=before.number + 1,
            key=list(key),
            set_at=at,
            set_by=actor_id,
            note=note,
        )
    )
    if row.state == "flagged":
        _move(session, row, "keep", note, at=at, actor_id=actor_id)
    session.flush()
    emit(session, Event.ITEM_REKEYED, row.id, at=at, actor_id=actor_id)


def _open_flags(session: Session, item_id: UUID) -> Sequence[ItemFlag]:
    return session.scalars(
        select(ItemFlag).where(ItemFlag.item_id == item_id, ItemFlag.decided_at.is_(None))
    ).all()


def _move(
    session: Session,
    row: BankItem,
    action: str,
    note: str,
    *,
    at: datetime,
    actor_id: UUID | None = None,
) -> None:
    change_state(session, ITEM, row, action, at=at, actor_id=actor_id, note=note)


# Calibration --------------------------------------------------------------------------------------


def keep_calibration(session: Session, fit: Fit, *, at: datetime) -> Calibration:
    """Put a calibration into force for the sittings that begin from now on, and flag what is odd.

    `at` is when the answers were read, so that what came meanwhile asks for the next one.
    """
    made = Calibration(bank_id=fit.basis.bank_id, fitted_at=at, answers=len(fit.basis.told))
    session.add(made)
    session.flush()
    known = np.isfinite(fit.share_right)
    rows = [
        {
            "calibration_id": made.id,
            "place": n,
            "item_id": one.id,
            "slope": float(fit.slope[n]),
            "ease": float(fit.ease[n]),
            "answers": int(fit.answers[n]),
            "share_right": float(fit.share_right[n]) if known[n] else None,
            "chance_negative": float(fit.chance_negative[n]) if known[n] else None,
        }
        for n, one in enumerate(fit.basis.items)
    ]
    if rows:
        session.execute(insert(ItemParameter), rows)
    for odd in fit.odd:
        raise_flag(session, odd.item_id, odd.reason, odd.detail, answers=odd.answers, at=at)
    return made
