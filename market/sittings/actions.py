"""How somebody sits a test: item by item, to its end, and again when a key was wrong.

Everything here runs as the platform: keys and answers are nobody else's to read. Locks are taken
in one order: the sitting, the bank or the item, the qualification.
"""

from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from market.db import new_id
from market.events import Event, change_state, emit
from market.http import wire_id
from market.item_banks.actions import raise_flag
from market.item_banks.models import BankItem, ItemBank
from market.item_banks.queries import bank_named, calibrated, item, key_of, newest_calibration
from market.item_banks.rules import CALIBRATED, READY, BankMissing, is_right, plain
from market.qualifications.actions import begin_qualification, grade_qualification
from market.qualifications.models import Qualification
from market.qualifications.queries import qualification
from market.qualifications.rules import QUALIFICATION, QualificationNotFound
from market.sittings.models import Sitting, SittingItem
from market.sittings.queries import (
    Graded,
    begun_since,
    exposure_now,
    graded,
    of_qualification,
    rebuilt,
    rules_of,
    seen_items,
    sitting,
    steps_of,
)
from market.sittings.rules import (
    GRACE,
    MAX_ANSWER,
    MIN_CHALLENGE,
    SITTING,
    SITTING_FOR,
    SITTINGS_A_YEAR,
    SITTINGS_EACH,
    YEAR,
    AnsweredOtherwise,
    AnswerTooLate,
    AnswerUnfit,
    BankExhausted,
    BankOutOfReach,
    ItemNotOpen,
    SittingHeld,
    SittingNotFound,
    SittingsUsedUp,
    bank_name,
    result_of,
    seed_of,
    weakened,
)


def start_sitting(
    session: Session, qualification_id: UUID, *, person_id: UUID, at: datetime
) -> Sitting:
    """Sit down to a test that one was asked to, or once more where it could not tell.

    Raises:
        QualificationNotFound, StateConflict, SittingHeld, SittingsUsedUp, BankMissing,
        BankExhausted, BankOutOfReach.
    """
    asked = qualification(session, qualification_id, lock=True)
    if asked.person_id != person_id:
        raise QualificationNotFound(qualification_id)
    if asked.state == "invited":
        asked = begin_qualification(session, qualification_id, person_id=person_id, at=at)
    elif asked.state != "in_progress":
        QUALIFICATION.target(asked.state, "begin")
    name = bank_name(asked.domain, asked.review_level)
    before = of_qualification(session, qualification_id)
    for one in before:
        if one.state == "open":
            raise SittingHeld(one.id)
    if len(before) >= SITTINGS_EACH:
        raise SittingsUsedUp(SITTINGS_EACH, None)
    bank = bank_named(session, name, lock=True)
    known = None if bank is None else newest_calibration(session, bank.id)
    if bank is None or known is None:
        raise BankMissing(name)
    lately = begun_since(session, person_id, bank.id, at - YEAR)
    if len(lately) >= SITTINGS_A_YEAR:
        raise SittingsUsedUp(SITTINGS_A_YEAR, lately[0] + YEAR)
    made = _sitting(session, asked, bank, known.id, before[-1] if before else None, at=at)
    bank.takers += 1
    session.add(made)
    session.flush()
    emit(
        session,
        Event.SITTING_STARTED,
        made.id,
        at=at,
        person_id=person_id,
        actor_id=person_id,
        data={"bank": name, "number": made.number},
    )
    return made


def _sitting(
    session: Session,
    asked: Qualification,
    bank: ItemBank,
    calibration_id: UUID,
    last: Sitting | None,
    *,
    at: datetime,
) -> Sitting:
    # Loads scipy, which a process that tests nobody can do without.
    from matching.adaptive import INFLATION, TestRules

    known = calibrated(session, calibration_id)
    seen = seen_items(session, asked.person_id, bank.id)
    active = session.scalars(
        select(BankItem.id).where(BankItem.bank_id == bank.id, BankItem.state == "active")
    )
    playable = [known.place[one] for one in active if one in known.place and one not in seen]
    count = known.tables.bank.answers_
    scoring = [n for n in range(len(count)) if count[n] >= CALIBRATED]
    is_pilot = len(scoring) < READY
    rules = TestRules(calibrated=0 if is_pilot else CALIBRATED)
    if sum(is_pilot or count[n] >= CALIBRATED for n in playable) < rules.least:
        raise BankExhausted(bank.name)
    if not is_pilot:
        cut = known.tables.bank.ability_at(asked.pass_score / 100, np.array(scoring, np.int64))
        if cut is None:
            raise BankOutOfReach(bank.name, asked.pass_score)
        rules = TestRules(calibrated=CALIBRATED, cut=cut)
    # What the sittings before have said of this test is where the next one begins; a new test
    # begins from nothing, and what a profile says of its owner is for the stump model to weigh.
    mean, sd = 0.0, 1.0
    if last is not None and last.mean is not None and last.sd is not None and not last.is_pilot:
        mean, sd = last.mean, last.sd / INFLATION**0.5
    sitting_id = new_id()
    return Sitting(
        id=sitting_id,
        qualification_id=asked.id,
        person_id=asked.person_id,
        bank_id=bank.id,
        calibration_id=calibration_id,
        number=1 if last is None else last.number + 1,
        domain=asked.domain,
        pass_score=asked.pass_score,
        is_pilot=is_pilot,
        seed=seed_of(sitting_id),
        rules=asdict(rules),
        prior_mean=mean,
        prior_sd=sd,
        begun_at=at,
        ends_at=min(at + SITTING_FOR, asked.ends_at),
    )


def put_item(
    session: Session, sitting_id: UUID, *, person_id: UUID, at: datetime
) -> SittingItem | None:
    """The item that a sitting has open, or the next one; None once the sitting is over.

    Asking twice gives the same item. One whose time is over counts as not known.

    Raises:
        SittingNotFound.
    """
    row = _own(session, sitting_id, person_id)
    if _advance(session, row, at=at):
        return None
    steps = steps_of(session, row.id)
    if steps and steps[-1].closed_at is None:
        return steps[-1]
    bank = session.scalars(
        select(ItemBank).where(ItemBank.id == row.bank_id).with_for_update(key_share=True)
    ).one()
    exposure, barred = exposure_now(session, row, bank.takers)
    test = rebuilt(session, row, steps, barred)
    ask = test.next_item(exposure)
    if ask is None:
        _end(session, row, "finish", test.stopped or "no item is left", at=at)
        return None
    known = calibrated(session, row.calibration_id)
    chosen = item(session, known.items[ask.item])
    made = SittingItem(
        sitting_id=row.id,
        step=len(steps) + 1,
        item_id=chosen.id,
        is_pretest=ask.is_pretest,
        takers=bank.takers,
        barred=barred,
        expected=float(test.posterior @ np.exp(known.tables.up[ask.item])),
        asked_at=at,
        due_at=min(at + timedelta(seconds=chosen.limit_s), row.ends_at),
    )
    session.add(made)
    session.execute(
        update(BankItem)
        .where(BankItem.id == chosen.id)
        .values(shown=BankItem.shown + 1)
        .execution_options(synchronize_session=False)
    )
    session.flush()
    return made


def answer_item(
    session: Session,
    sitting_id: UUID,
    step: int,
    answer: str | None,
    *,
    person_id: UUID,
    at: datetime,
) -> Sitting:
    """Answer the open item, or say (None) that one does not know; the same answer twice is one.

    Raises:
        SittingNotFound, ItemNotOpen, AnsweredOtherwise, AnswerTooLate, AnswerUnfit.
    """
    row = _own(session, sitting_id, person_id)
    steps = steps_of(session, row.id)
    found = next((one for one in steps if one.step == step), None)
    if found is None:
        is_open = bool(steps) and steps[-1].closed_at is None
        raise ItemNotOpen(steps[-1].step if is_open else None)
    if found.closed_at is not None:
        if found.answer is None and answer is not None:
            raise AnswerTooLate(found.due_at)
        if found.answer != answer:
            raise AnsweredOtherwise(step)
        return row
    if at > found.due_at + GRACE:
        raise AnswerTooLate(found.due_at)
    # Locked against a new key, so that nothing is marked by a key that is no longer the right one.
    asked = session.get_one(BankItem, found.item_id, with_for_update={"read": True})
    if answer is not None:
        if not plain(answer) or len(answer) > MAX_ANSWER or "\x00" in answer:
            raise AnswerUnfit("answer", f"1 to {MAX_ANSWER} characters, or null for not known")
        if asked.choices and plain(answer) not in {plain(one) for one in asked.choices}:
            raise AnswerUnfit("answer", "one of the choices")
    _close(session, found, answer, at=at)
    _advance(session, row, at=at, is_news=True)
    return row


def end_late(session: Session, sitting_id: UUID, *, at: datetime) -> bool:
    """Close an item, or a sitting, whose time is over; whether the sitting is over."""
    return _advance(session, sitting(session, sitting_id, lock=True), at=at)


def challenge_item(
    session: Session, sitting_id: UUID, step: int, note: str, *, person_id: UUID, at: datetime
) -> None:
    """Say that the key of an item one had is wrong, for ops to look at, once the sitting is over.

    Raises:
        SittingNotFound, ItemNotOpen, AnswerUnfit.
    """
    row = sitting(session, sitting_id)
    if row.person_id != person_id:
        raise SittingNotFound(sitting_id)
    if len(note.strip()) < MIN_CHALLENGE:
        raise AnswerUnfit("note", f"at least {MIN_CHALLENGE} characters on what is wrong")
    found = next((one for one in steps_of(session, row.id) if one.step == step), None)
    if found is None or row.state == "open":
        raise ItemNotOpen(None)
    shown = item(session, found.item_id).shown
    raise_flag(
        session, found.item_id, "challenged", note, answers=shown, at=at, person_id=person_id
    )


def _own(session: Session, sitting_id: UUID, person_id: UUID) -> Sitting:
    row = sitting(session, sitting_id, lock=True)
    if row.person_id != person_id:
        raise SittingNotFound(sitting_id)
    return row


def _close(session: Session, found: SittingItem, answer: str | None, *, at: datetime) -> None:
    key = key_of(session, found.item_id)
    right = answer is not None and is_right(answer, key.key)
    found.answer, found.answered_at = answer, None if answer is None else at
    found.closed_at, found.key_number = at, key.number
    found.was_right = found.is_right = right
    session.flush()


def _advance(session: Session, row: Sitting, *, at: datetime, is_news: bool = False) -> bool:
    """Close what is late, and end what is settled; whether the sitting is over.

    The stop rule is asked only after something was closed: before, it was asked already.
    """
    if row.state != "open":
        return True
    steps = steps_of(session, row.id)
    if steps and steps[-1].closed_at is None:
        if at <= steps[-1].due_at + GRACE:
            return False
        # What is not answered in time is not known; the time was said with the item.
        _close(session, steps[-1], None, at=at)
        is_news = True
    if at >= row.ends_at:
        _end(session, row, "run_out", "its time was over", at=at)
        return True
    if not is_news:
        return False
    _, barred = exposure_now(session, row, 0)
    stopped = rebuilt(session, row, steps, barred).stopped
    if stopped is None:
        return False
    _end(session, row, "finish", stopped, at=at)
    return True


# What it comes to ---------------------------------------------------------------------------------


def _end(session: Session, row: Sitting, action: str, why: str, *, at: datetime) -> None:
    found = graded(session, row)
    row.ended_at, row.stopped = at, why
    tell_result(row, found)
    change_state(
        session,
        SITTING,
        row,
        action,
        at=at,
        event=Event.SITTING_ENDED,
        person_id=row.person_id,
        data={"result": row.result, "score": row.score},
    )
    asked = qualification(session, row.qualification_id, lock=True)
    if asked.state == "in_progress" and row.result in ("passed", "failed"):
        grade_by(session, row, at=at)


def tell_result(row: Sitting, found: Graded) -> None:
    """Write what the answers come to; the stump model is told of it from here on."""
    from matching.adaptive import INFLATION

    said = found.evidence
    row.mean, row.sd, row.chance_above = said.mean, said.sd, said.chance_above
    row.score, row.score_low, row.score_high = found.score, found.low, found.high
    row.scored = said.items
    row.result = result_of(said, is_pilot=row.is_pilot, least=rules_of(row).least)
    row.tested = None if row.is_pilot else weakened(said.mean, said.sd, INFLATION)


def worth_of(row: Sitting) -> int:
    """The score that a qualification is graded with. Units: per cent."""
    # The verdict is by the interval; rounding must not turn it.
    score = row.score or 0
    return max(score, row.pass_score) if row.result == "passed" else min(score, row.pass_score - 1)


def grade_by(session: Session, row: Sitting, *, at: datetime) -> None:
    """Decide a qualification by what its last sitting came to."""
    grade_qualification(
        session, row.qualification_id, score=worth_of(row), evidence=[wire_id("sit", row.id)], at=at
    )
