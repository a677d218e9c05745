"""Reads of sittings: their steps, what they are graded by, what would change them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from sqlalchemy import Select, Uuid, bindparam, func, select, text
from sqlalchemy.orm import Session

from market.filters import narrowed
from market.item_banks.models import BankItem
from market.item_banks.queries import (
    Calibrated,
    calibrated,
    keys_of,
    newest_calibration,
)
from market.qualifications.queries import qualification
from market.sittings.models import Sitting, SittingItem
from market.sittings.rules import (
    NORMAL_90,
    SITTINGS_EACH,
    Prospects,
    SittingNotFound,
    prospects,
)

if TYPE_CHECKING:
    from matching.adaptive import Evidence, Exposure, TestRules
    from matching.adaptive import Sitting as Test


def sitting(session: Session, sitting_id: UUID, *, lock: bool = False) -> Sitting:
    """The sitting with this id, if the caller may see it; locked, when it is to go on.

    Raises:
        SittingNotFound.
    """
    statement = select(Sitting).where(Sitting.id == sitting_id)
    if lock:
        statement = statement.with_for_update(key_share=True).execution_options(
            populate_existing=True
        )
    found = session.scalar(statement)
    if found is None:
        raise SittingNotFound(sitting_id)
    return found


def sittings(
    *,
    person_id: UUID | None = None,
    qualification_id: UUID | None = None,
    result: str | None = None,
) -> Select[Sitting]:
    """Sittings that the caller may see, as a statement to page through."""
    return narrowed(
        select(Sitting),
        (Sitting.person_id, person_id),
        (Sitting.qualification_id, qualification_id),
        (Sitting.result, result),
    )


def steps_of(session: Session, sitting_id: UUID) -> Sequence[SittingItem]:
    """What was put in a sitting, in its order."""
    return session.scalars(
        select(SittingItem)
        .where(SittingItem.sitting_id == sitting_id)
        .order_by(SittingItem.step)
        .execution_options(populate_existing=True)
    ).all()


def of_qualification(session: Session, qualification_id: UUID) -> Sequence[Sitting]:
    """The sittings of one qualification, in their order."""
    return session.scalars(
        select(Sitting).where(Sitting.qualification_id == qualification_id).order_by(Sitting.id)
    ).all()


def begun_since(
    session: Session, person_id: UUID, bank_id: UUID, since: datetime
) -> Sequence[datetime]:
    """When a person sat down to a bank, the earliest first."""
    return session.scalars(
        select(Sitting.begun_at)
        .where(Sitting.person_id == person_id, Sitting.bank_id == bank_id, Sitting.begun_at > since)
        .order_by(Sitting.begun_at)
    ).all()


def ended_sittings(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Open sittings whose time, or the time of whose open item, is over."""
    late = (
        select(SittingItem.sitting_id)
        .where(SittingItem.closed_at.is_(None), SittingItem.due_at <= at)
        .order_by(SittingItem.due_at)
        .limit(limit)
    )
    over = (
        select(Sitting.id)
        .where(Sitting.state == "open", Sitting.ends_at <= at)
        .order_by(Sitting.ends_at)
        .limit(limit)
    )
    return list(dict.fromkeys([*session.scalars(late), *session.scalars(over)]))


# What is asked next -------------------------------------------------------------------------------

# Another version of an item that somebody has seen is not another item.
_SEEN = text(
    """
    select distinct i.id from market.sitting o
    join market.sitting_item a on a.sitting_id = o.id
    join market.bank_item seen on seen.id = a.item_id
    join market.bank_item i on i.bank_id = seen.bank_id and i.external_id = seen.external_id
    where o.person_id = :person_id and o.bank_id = :bank_id
        and (cast(:before as uuid) is null or o.id < cast(:before as uuid))
    """
).bindparams(
    bindparam("person_id", type_=Uuid()),
    bindparam("bank_id", type_=Uuid()),
    bindparam("before", type_=Uuid()),
)


def seen_items(
    session: Session, person_id: UUID, bank_id: UUID, *, before: UUID | None = None
) -> set[UUID]:
    """Items that were put to a person, in any sitting or in those before one."""
    given = {"person_id": person_id, "bank_id": bank_id, "before": before}
    return set(session.scalars(_SEEN.columns(id=Uuid()), given))


def rules_of(row: Sitting) -> "TestRules":
    """How a sitting chooses and ends, as it was when it began."""
    # Loads scipy, which a process that tests nobody can do without.
    from matching.adaptive import TestRules

    return TestRules(**row.rules)


def rebuilt(
    session: Session, row: Sitting, steps: Sequence[SittingItem], barred: Sequence[int]
) -> "Test":
    """A sitting as the mathematics has it, after the steps that are closed; the same every time."""
    from matching.adaptive import Sitting as Test

    known = calibrated(session, row.calibration_id)
    asked = {known.place[step.item_id] for step in steps}
    seen = seen_items(session, row.person_id, row.bank_id, before=row.id)
    out = {known.place[one] for one in seen if one in known.place} | set(barred)
    test = Test(
        known.tables,
        rules_of(row),
        seed=row.seed,
        prior_mean=row.prior_mean,
        prior_sd=row.prior_sd,
        seen=sorted(out - asked),
    )
    for step in steps:
        if step.was_right is not None:
            test.answer(known.place[step.item_id], right=step.was_right)
    return test


def exposure_now(session: Session, row: Sitting, takers: int) -> "tuple[Exposure, list[int]]":
    """To how many each item was put, and the places of the calibration that are out of play."""
    from matching.adaptive import Exposure

    known = calibrated(session, row.calibration_id)
    found = Exposure(len(known.items))
    found.takers = takers
    barred = []
    for item_id, shown, state in session.execute(
        select(BankItem.id, BankItem.shown, BankItem.state).where(BankItem.bank_id == row.bank_id)
    ):
        place = known.place.get(item_id)
        if place is not None:
            found.shown[place] = shown
            if state != "active":
                barred.append(place)
    return found, sorted(barred)


@dataclass(frozen=True, slots=True)
class Rechosen:
    """The item of a step, and the one that the record leads to when it is chosen again."""

    step: int
    item_id: UUID
    again: UUID | None


_SHOWN = text(
    """
    select a.item_id, a.seq from market.sitting_item a
    join market.bank_item i on i.id = a.item_id
    where i.bank_id = :bank_id and a.seq < :before order by a.seq
    """
).bindparams(bindparam("bank_id", type_=Uuid()))


def rechosen(session: Session, row: Sitting) -> list[Rechosen]:
    """Every step of a sitting chosen again from the record: each must come to the same item."""
    from matching.adaptive import Exposure

    steps = steps_of(session, row.id)
    if not steps:
        return []
    known = calibrated(session, row.calibration_id)
    given = {"bank_id": row.bank_id, "before": steps[-1].seq}
    shown = session.execute(_SHOWN.columns(item_id=Uuid()), given).all()
    found, exposure, at = [], Exposure(len(known.items)), 0
    for n, step in enumerate(steps):
        while at < len(shown) and shown[at].seq < step.seq:
            place = known.place.get(shown[at].item_id)
            if place is not None:
                exposure.show(place)
            at += 1
        now = Exposure(len(known.items))
        now.takers, now.shown = step.takers, exposure.shown.copy()
        ask = rebuilt(session, row, steps[:n], step.barred).next_item(now)
        again = None if ask is None else known.items[ask.item]
        found.append(Rechosen(step.step, step.item_id, again))
    return found


# What it comes to ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Graded:
    """What the answers of a sitting, and of those before it, come to. Units: scores in per cent."""

    evidence: "Evidence"
    score: int
    low: int
    high: int


def graded(session: Session, row: Sitting) -> Graded:
    """Score what was answered for a qualification up to a sitting, by the keys as they are now.

    An item whose key was corrected scores by what the next calibration says of it, since the old
    one was fitted to the wrong key; before there is one, and once withdrawn, it does not score.
    """
    from matching.adaptive import regrade

    known = calibrated(session, row.calibration_id)
    rows = session.execute(
        select(SittingItem.item_id, SittingItem.is_right, BankItem.state)
        .join(Sitting, Sitting.id == SittingItem.sitting_id)
        .join(BankItem, BankItem.id == SittingItem.item_id)
        .where(
            Sitting.qualification_id == row.qualification_id,
            Sitting.id <= row.id,
            SittingItem.closed_at.is_not(None),
        )
        .order_by(SittingItem.seq)
    ).all()
    marked = {
        found.item_id: bool(found.is_right)
        for found in rows
        if found.item_id in known.place and found.state != "withdrawn"
    }
    bank_of, without = _with_new_keys(session, row, known, list(marked))
    counted = [one for one in marked if one not in without]
    rules = rules_of(row)
    evidence = regrade(
        bank_of.tables,
        np.array([known.place[one] for one in counted], np.int64),
        np.array([marked[one] for one in counted], np.bool_),
        rules=rules,
    )
    # The scale of per cent is that of the calibration that the test began under.
    bank = known.tables.bank
    scoring = np.flatnonzero(bank.answers_ >= rules.calibrated)
    half = NORMAL_90 * evidence.sd
    score, low, high = (
        int(100 * bank.share_right(ability, scoring) + 1e-9)
        for ability in (evidence.mean, evidence.mean - half, evidence.mean + half)
    )
    return Graded(evidence, score, low, high)


def _with_new_keys(
    session: Session, row: Sitting, known: Calibrated, items: list[UUID]
) -> tuple[Calibrated, set[UUID]]:
    keys = keys_of(session, items)
    changed = {one for one in items if keys[one].number > 1 and keys[one].set_at > known.fitted_at}
    if not changed:
        return known, set()
    newest = newest_calibration(session, row.bank_id)
    if newest is None or newest.id == known.id:
        return known, changed
    later = calibrated(session, newest.id)
    fitted = {one for one in changed if one in later.place and later.fitted_at > keys[one].set_at}
    if not fitted:
        return known, changed
    from matching.adaptive import Tables
    from matching.itembank import ItemBank as Bank

    bank, fresh = known.tables.bank, later.tables.bank
    slope, ease, count = bank.slope_.copy(), bank.ease_.copy(), bank.answers_.copy()
    for one in fitted:
        here, there = known.place[one], later.place[one]
        slope[here], ease[here] = fresh.slope_[there], fresh.ease_[there]
        count[here] = fresh.answers_[there]
    tables = Tables(Bank.of(slope, ease, count, domain=bank.labels_[bank.domain_]))
    return replace(known, tables=tables), changed - fitted


@dataclass(frozen=True, slots=True)
class TopicCount:
    """How much of a topic was put to a person, and how much of it was right."""

    topic: str
    put: int
    right: int


def topics_of(session: Session, sitting_id: UUID) -> list[TopicCount]:
    """What a sitting was about, and how it went, without telling any item's key."""
    right = func.count().filter(SittingItem.is_right.is_(True))
    rows = session.execute(
        select(BankItem.topic, func.count(), right)
        .join(SittingItem, SittingItem.item_id == BankItem.id)
        .where(SittingItem.sitting_id == sitting_id, SittingItem.closed_at.is_not(None))
        .group_by(BankItem.topic)
        .order_by(BankItem.topic)
    )
    return [TopicCount(*row) for row in rows]


def prospects_of(session: Session, row: Sitting) -> Prospects | None:
    """What would change what a sitting came to; none while it is open."""
    if row.result is None:
        return None
    asked = qualification(session, row.qualification_id)
    return prospects(
        row.result,
        pass_score=row.pass_score,
        state=asked.state,
        sittings_left=SITTINGS_EACH - len(of_qualification(session, asked.id)),
        decided_at=asked.decided_at,
    )
