"""Reads of item banks: items and keys, what was answered, and calibrations as they are used."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Select, Uuid, bindparam, exists, func, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from market.item_banks.models import (
    BankItem,
    Calibration,
    ItemBank,
    ItemFlag,
    ItemKey,
    ItemParameter,
)
from market.item_banks.rules import CALIBRATED, READY, Answered, Basis, ItemNotFound, Known

if TYPE_CHECKING:
    from matching.adaptive import Tables


def bank_named(session: Session, name: str, *, lock: bool = False) -> ItemBank | None:
    """The bank of a domain, if there is one; locked, when an item is to be put to somebody."""
    statement = select(ItemBank).where(ItemBank.name == name)
    if lock:
        statement = statement.with_for_update(key_share=True).execution_options(
            populate_existing=True
        )
    return session.scalar(statement)


def item(session: Session, item_id: UUID, *, lock: bool = False) -> BankItem:
    """The item with this id; locked, when something is decided of it.

    Raises:
        ItemNotFound.
    """
    found = session.get(BankItem, item_id, with_for_update=lock or None, populate_existing=lock)
    if found is None:
        raise ItemNotFound(item_id)
    return found


def items_found(*, bank: str | None = None, state: str | None = None) -> Select[BankItem]:
    """Items, as a statement to page through."""
    statement = select(BankItem)
    if bank is not None:
        wanted = select(ItemBank.id).where(ItemBank.name == bank).scalar_subquery()
        statement = statement.where(BankItem.bank_id == wanted)
    if state is not None:
        statement = statement.where(BankItem.state == state)
    return statement


def key_of(session: Session, item_id: UUID) -> ItemKey:
    """The key of an item as it is now."""
    return session.scalars(
        select(ItemKey).where(ItemKey.item_id == item_id).order_by(ItemKey.number.desc()).limit(1)
    ).one()


def keys_of(session: Session, item_ids: Sequence[UUID]) -> dict[UUID, ItemKey]:
    """The key of each of some items as it is now."""
    rows = session.scalars(
        select(ItemKey).where(ItemKey.item_id.in_(item_ids)).order_by(ItemKey.number)
    )
    return {row.item_id: row for row in rows}


def flags_of(session: Session, item_ids: Sequence[UUID]) -> dict[UUID, list[ItemFlag]]:
    """Why each of some items was, or is, to be looked at; the latest first."""
    found: dict[UUID, list[ItemFlag]] = {item_id: [] for item_id in item_ids}
    rows = session.scalars(
        select(ItemFlag).where(ItemFlag.item_id.in_(item_ids)).order_by(ItemFlag.id.desc())
    )
    for row in rows:
        found[row.item_id].append(row)
    return found


def banks_found() -> Select[ItemBank]:
    """Item banks, as a statement to page through."""
    return select(ItemBank)


def banks_of(session: Session, bank_ids: Iterable[UUID]) -> dict[UUID, ItemBank]:
    """Some banks by their ids."""
    rows = session.scalars(select(ItemBank).where(ItemBank.id.in_(bank_ids)))
    return {row.id: row for row in rows}


@dataclass(frozen=True, slots=True)
class BankState:
    """How a bank stands: its items by state, and its newest calibration."""

    items: dict[str, int]
    calibrated: int
    fitted_at: datetime | None
    answers: int

    @property
    def is_ready(self) -> bool:
        """Whether sittings in it give verdicts."""
        return self.calibrated >= READY


def bank_states(session: Session, bank_ids: Sequence[UUID]) -> dict[UUID, BankState]:
    """How each of some banks stands."""
    counts: dict[UUID, dict[str, int]] = {bank_id: {} for bank_id in bank_ids}
    for bank_id, state, count in session.execute(
        select(BankItem.bank_id, BankItem.state, func.count())
        .where(BankItem.bank_id.in_(bank_ids))
        .group_by(BankItem.bank_id, BankItem.state)
    ):
        counts[bank_id][state] = count
    found = {}
    for bank_id in bank_ids:
        last = newest_calibration(session, bank_id)
        enough = 0
        if last is not None:
            enough = sum(one.answers >= CALIBRATED for one in parameters_of(session, last.id))
        found[bank_id] = BankState(
            counts[bank_id],
            enough,
            None if last is None else last.fitted_at,
            0 if last is None else last.answers,
        )
    return found


def newest_parameters(session: Session, item_ids: Sequence[UUID]) -> dict[UUID, ItemParameter]:
    """What the last calibration that had it says of each of some items."""
    rows = session.scalars(
        select(ItemParameter)
        .ext(distinct_on(ItemParameter.item_id))
        .where(ItemParameter.item_id.in_(item_ids))
        .order_by(ItemParameter.item_id, ItemParameter.calibration_id.desc())
    )
    return {row.item_id: row for row in rows}


# Calibrations -------------------------------------------------------------------------------------


def newest_calibration(session: Session, bank_id: UUID) -> Calibration | None:
    """The calibration that sittings begin under now; one without items is none."""
    return session.scalars(
        select(Calibration)
        .where(
            Calibration.bank_id == bank_id,
            exists().where(ItemParameter.calibration_id == Calibration.id),
        )
        .order_by(Calibration.id.desc())
        .limit(1)
    ).one_or_none()


def parameters_of(session: Session, calibration_id: UUID) -> Sequence[ItemParameter]:
    """What a calibration says of its items, in their places."""
    return session.scalars(
        select(ItemParameter)
        .where(ItemParameter.calibration_id == calibration_id)
        .order_by(ItemParameter.place)
    ).all()


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """A calibration worked out: which item has which place, and the tables to ask and grade by."""

    id: UUID
    fitted_at: datetime
    items: tuple[UUID, ...]
    place: dict[UUID, int]
    tables: "Tables"


_kept: dict[UUID, Calibrated] = {}
KEPT = 64
"""Calibrations that a process keeps worked out."""


def calibrated(session: Session, calibration_id: UUID) -> Calibrated:
    """A calibration worked out; kept for the next step, because its rows never change."""
    found = _kept.get(calibration_id)
    if found is None:
        found = _read(session, session.get_one(Calibration, calibration_id))
        if len(_kept) >= KEPT:
            _kept.clear()
        _kept[calibration_id] = found
    return found


def _read(session: Session, found: Calibration) -> Calibrated:
    # Loads scipy, which a process that tests nobody can do without.
    from matching.adaptive import Tables
    from matching.itembank import ItemBank as Bank

    rows = parameters_of(session, found.id)
    topics = {
        row.id: row.topic
        for row in session.execute(
            select(BankItem.id, BankItem.topic).where(BankItem.bank_id == found.bank_id)
        )
    }
    bank = Bank.of(
        [row.slope for row in rows],
        [row.ease for row in rows],
        [row.answers for row in rows],
        domain=[topics[row.item_id] for row in rows],
    )
    ids = tuple(row.item_id for row in rows)
    place = {item_id: n for n, item_id in enumerate(ids)}
    return Calibrated(found.id, found.fitted_at, ids, place, Tables(bank))


# What was answered --------------------------------------------------------------------------------


# Sittings are a feature that stands later in a task's life; they are read as tables. What was left
# unanswered says more of the clock than of the item.
_ANSWERED = text(
    """
    select s.person_id, a.item_id, a.answered_at, a.expected, a.is_right
    from market.sitting_item a
    join market.sitting s on s.id = a.sitting_id
    join market.bank_item i on i.id = a.item_id
    where i.bank_id = :bank_id and i.state <> 'withdrawn' and a.answer is not null
    order by a.seq
    """
).bindparams(bindparam("bank_id", type_=Uuid()))

_STALE = text(
    """
    select b.id from market.item_bank b
    left join lateral (
        select c.id, c.fitted_at from market.calibration c where c.bank_id = b.id
        order by c.id desc limit 1
    ) c on true
    where c.id is null
        or exists (select from market.bank_item i
            where i.bank_id = b.id and i.created_at > c.fitted_at)
        or exists (select from market.bank_item i join market.item_key k on k.item_id = i.id
            where i.bank_id = b.id and k.set_at > c.fitted_at)
        or exists (select from market.bank_item i join market.sitting_item a on a.item_id = i.id
            where i.bank_id = b.id and a.answered_at > c.fitted_at)
        or exists (select from market.bank_item i join market.item_parameter p on p.item_id = i.id
            where i.bank_id = b.id and i.state = 'withdrawn' and p.calibration_id = c.id)
    order by b.name
    """
)


def answered(session: Session, bank_id: UUID) -> list[Answered]:
    """All answers to a bank's items, as they are marked now, in the order of the questions."""
    return [Answered(*row) for row in session.execute(_ANSWERED, {"bank_id": bank_id})]


def stale_banks(session: Session) -> list[UUID]:
    """Banks with items, keys or answers that their newest calibration has not seen."""
    return list(session.scalars(_STALE.columns(id=Uuid())))


def basis_of(session: Session, bank_id: UUID) -> Basis:
    """What is known of a bank now."""
    items = session.scalars(
        select(BankItem)
        .where(BankItem.bank_id == bank_id, BankItem.state != "withdrawn")
        .order_by(BankItem.id)
    ).all()
    flags = session.execute(
        select(ItemFlag.item_id, ItemFlag.decided_at, ItemFlag.answers)
        .join(BankItem, BankItem.id == ItemFlag.item_id)
        .where(BankItem.bank_id == bank_id, ItemFlag.person_id.is_(None))
        .order_by(ItemFlag.id)
    )
    looked = {row.item_id: (row.decided_at, row.answers) for row in flags if row.decided_at}
    known = tuple(
        Known(one.id, one.level, one.topic, one.slope, one.ease, one.answers) for one in items
    )
    return Basis(bank_id, known, tuple(answered(session, bank_id)), looked)
