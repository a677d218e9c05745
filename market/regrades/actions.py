"""How a sitting is graded again, and what follows from it; everything here runs as the platform."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Uuid, bindparam, exists, select, text, update
from sqlalchemy.orm import Session

from market.events import Event, emit
from market.http import wire_id
from market.item_banks.queries import item, key_of
from market.item_banks.rules import is_right
from market.qualifications.actions import regrade_qualification
from market.qualifications.queries import qualification
from market.qualifications.rules import QualificationHeld
from market.regrades.models import Regrade
from market.sittings.actions import grade_by, tell_result, worth_of
from market.sittings.models import Sitting, SittingItem
from market.sittings.queries import graded, of_qualification, sitting

_REMARK = text(
    """
    select a.sitting_id, a.step, a.answer, a.key_number from market.sitting_item a
    join market.sitting s on s.id = a.sitting_id
    where a.item_id = :item_id and a.closed_at is not null
    order by a.seq for no key update of s, a
    """
).bindparams(bindparam("item_id", type_=Uuid()))


def remark_answers(session: Session, item_id: UUID) -> int:
    """Mark what was answered to an item by its key as it is now; how many marks there were."""
    key = key_of(session, item_id)
    # Sittings are locked, too: one that is ending by the old key ends first, and is found then.
    rows = session.execute(_REMARK.columns(sitting_id=Uuid()), {"item_id": item_id}).all()
    stale = [one for one in rows if one.key_number < key.number]
    for one in stale:
        session.execute(
            update(SittingItem)
            .where(SittingItem.sitting_id == one.sitting_id, SittingItem.step == one.step)
            .values(
                is_right=one.answer is not None and is_right(one.answer, key.key),
                key_number=key.number,
            )
            .execution_options(synchronize_session=False)
        )
    return len(stale)


def regrade_sitting(session: Session, sitting_id: UUID, item_id: UUID, *, at: datetime) -> bool:
    """Grade an ended sitting again for an item with a new key, or one withdrawn; once for each.

    A denial that no longer holds becomes a pass. A pass that no longer holds is kept: only ops can
    take it away, with reasons that can be appealed.
    """
    row = sitting(session, sitting_id, lock=True)
    found = item(session, item_id)
    is_gone = found.state == "withdrawn"
    reason = "withdrawn" if is_gone else f"key {key_of(session, item_id).number}"
    done = exists().where(
        Regrade.sitting_id == row.id, Regrade.item_id == item_id, Regrade.reason == reason
    )
    if session.scalar(select(done)):
        return False
    if row.result is None or row.mean is None or row.sd is None or row.score is None:
        # Still open: its end counts by the new key.
        return False
    mean, sd, score, result = row.mean, row.sd, row.score, row.result
    tell_result(row, graded(session, row))
    row.version += 1
    effect = _follow(session, row, reason, at=at)
    session.add(
        Regrade(
            sitting_id=row.id,
            person_id=row.person_id,
            item_id=item_id,
            reason=reason,
            at=at,
            mean_before=mean,
            sd_before=sd,
            score_before=score,
            result_before=result,
            mean_after=row.mean,
            sd_after=row.sd,
            score_after=row.score,
            result_after=row.result,
            effect=effect,
        )
    )
    session.flush()
    emit(
        session,
        Event.SITTING_REGRADED,
        row.id,
        at=at,
        person_id=row.person_id,
        data={"effect": effect, "result": row.result, "score": row.score},
    )
    return True


def _follow(session: Session, row: Sitting, reason: str, *, at: datetime) -> str:
    """What a re-grade does to the qualification, which the last of its sittings decides."""
    asked = qualification(session, row.qualification_id, lock=True)
    if of_qualification(session, asked.id)[-1].id != row.id:
        return "none"
    # What somebody decided by hand stands; what the test decided is the test's to put right.
    by_test = asked.decided_by is None
    if row.result != "passed":
        return "pass_kept" if by_test and asked.state == "granted" else "none"
    if asked.state == "in_progress":
        grade_by(session, row, at=at)
        return "granted"
    if asked.state != "denied" or not by_test:
        return "none"
    try:
        regrade_qualification(
            session,
            asked.id,
            score=worth_of(row),
            reason_code="wrong_key",
            evidence=[f"{wire_id('sit', row.id)}: {reason}"],
            at=at,
        )
    except QualificationHeld:
        # A retake is under way, or passed, and stands in its place.
        return "held"
    return "granted"
