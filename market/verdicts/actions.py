"""What a verdict moves: the submission, its attempt, its seat and its task, together.

Everything here runs as the platform. The caller holds the submission locked; locks are taken in one
order: submission, attempt, offer, slot, task.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from market.attempts.models import Attempt
from market.attempts.queries import beside
from market.attempts.rules import ATTEMPT
from market.events import Changes, Event
from market.offers.actions import rescind_offer
from market.panels.queries import models_failed_last
from market.projects.models import Project
from market.submissions.models import Submission
from market.submissions.rules import SUBMISSION
from market.tasks.models import Task, TaskSlot
from market.tasks.rules import FILLED, OPEN, RECALLABLE, RETIRED, SLOT, TASK
from market.verdicts.models import Verdict
from market.verdicts.rules import ACTIONS, Correction, Outcome


def record_verdict(
    session: Session, submission: Submission, outcome: Outcome, changes: Changes
) -> Verdict:
    """Decide a submission; what its expert earns follows as a reaction."""
    # Only a claim can be validated: who concedes has said that the model was right.
    claim = (
        None
        if submission.attempt_id is None
        else session.execute(
            select(Attempt.id, Attempt.stump_rule).where(
                Attempt.id == submission.attempt_id, Attempt.state == "validating"
            )
        ).one_or_none()
    )
    is_validated = claim is not None and outcome.is_validated
    verdict = Verdict(
        submission_id=submission.id,
        organisation_id=submission.organisation_id,
        project_id=submission.project_id,
        task_id=submission.task_id,
        expert_id=submission.expert_id,
        votes=outcome.votes,
        rejects=outcome.rejects,
        is_accepted=outcome.is_accepted,
        share=outcome.share,
        is_tested=submission.attempt_id is not None,
        is_validated=is_validated,
        is_stump=outcome.is_accepted and is_validated and outcome.is_fair,
        is_silent=outcome.basis == "silence",
        basis=outcome.basis,
        decided_at=changes.at,
    )
    session.add(verdict)
    whom = (submission.organisation_id, submission.expert_id)
    action, told = ACTIONS[outcome.action]
    event_id = changes.event(told, submission.id, *whom)
    submission.state = changes.move(
        SUBMISSION,
        submission.id,
        submission.state,
        action,
        event_id=event_id,
        reason_code=outcome.reason_code,
    )
    submission.decided_at = changes.at
    submission.version += 1
    session.flush()
    if claim is not None:
        failed = outcome.models_failed or {claim.id: is_validated}
        if claim.stump_rule is not None:
            # Nobody says of a model that no vote speaks of, as when nobody came, that it failed.
            failed = _unsettled(session, claim.id) | dict(failed)
        _settle_attempts(session, failed, verdict, changes, is_fair=outcome.is_fair)
    _settle_slot(session, submission, outcome, changes)
    changes.event(Event.VERDICT_RECORDED, submission.id, *whom)
    return verdict


def correct_verdict(
    session: Session, submission: Submission, correction: Correction, changes: Changes
) -> Verdict:
    """Put another verdict in the place of one that did not hold; the old one is kept beside it.

    An accepted answer takes its seat back where nobody has begun to work on it since: there is
    never one answer more than the task asks for.

    Raises:
        StateConflict.
    """
    whom = (submission.organisation_id, submission.expert_id)
    verdict = session.get_one(Verdict, submission.id, with_for_update=True)
    event_id = changes.event(Event.VERDICT_CORRECTED, submission.id, *whom)
    submission.state = changes.move(
        SUBMISSION,
        submission.id,
        submission.state,
        correction.action,
        event_id=event_id,
        reason_code=correction.reason_code,
    )
    submission.decided_at = changes.at
    submission.version += 1
    was_accepted = verdict.is_accepted
    verdict.is_accepted = correction.share > 0
    verdict.share = correction.share
    if correction.is_validated is not None:
        verdict.is_validated = verdict.is_tested and correction.is_validated
    is_fair = verdict.is_stump if correction.is_fair is None else correction.is_fair
    verdict.is_stump = verdict.is_accepted and verdict.is_validated and is_fair
    verdict.basis = correction.basis
    verdict.decided_at = changes.at
    verdict.version += 1
    session.flush()
    if submission.attempt_id is not None:
        _correct_attempts(session, submission.attempt_id, verdict, changes)
    if verdict.is_accepted and not was_accepted:
        _take_seat_back(session, submission, changes)
    elif was_accepted and not verdict.is_accepted:
        _vacate_seat(session, submission, changes)
    return verdict


def clear_claim(session: Session, submission_id: UUID, *, at: datetime) -> bool:
    """Close the claim of a submission that was given back before a verdict; whether it had one."""
    submission = session.get_one(Submission, submission_id, with_for_update=True)
    if submission.state not in ("returned", "timed_out") or submission.attempt_id is None:
        return False
    attempt = session.get_one(Attempt, submission.attempt_id, with_for_update=True)
    if attempt.state != "validating":
        return False
    changes = Changes(at)
    for one in (attempt, *beside(session, attempt, locked=True)):
        if one.state == "validating":
            one.state = changes.move(ATTEMPT, one.id, one.state, "clear", reason_code="given_back")
            one.version += 1
    session.flush()
    changes.write(session)
    return True


def dispute_task(session: Session, task_id: UUID, changes: Changes) -> None:
    """The votes on an answer are split: its task waits for a senior, if nothing else is open."""
    task = _locked_task(session, task_id)
    if task.state == "in_review":
        _move_task(session, task, "conflict", changes)


def _unsettled(session: Session, head_id: UUID) -> dict[UUID, bool]:
    waiting = select(Attempt.id).where(Attempt.panel_of == head_id, Attempt.state == "validating")
    return dict.fromkeys(session.scalars(waiting), False)


def _settle_attempts(
    session: Session,
    failed: Mapping[UUID, bool],
    verdict: Verdict,
    changes: Changes,
    *,
    is_fair: bool,
) -> None:
    """Say of each model that was asked whether it was stumped; without a panel it is the target."""
    for one, model_failed in failed.items():
        if verdict.is_accepted and model_failed and is_fair:
            action = "verify"
        elif model_failed or not verdict.is_accepted:
            action = "refute"
        else:
            action = "clear"
        _move_attempt(session, one, "validating", action, changes)


def _correct_attempts(
    session: Session, attempt_id: UUID, verdict: Verdict, changes: Changes
) -> None:
    head = session.get_one(Attempt, attempt_id, with_for_update=True, populate_existing=True)
    asked = [head, *beside(session, head, locked=True)]
    if verdict.is_stump:
        failed = models_failed_last(session, verdict.submission_id)
        # Of which models it is a stump the votes say; where they say of none, of the target.
        wanted = {one for one, is_so in failed.items() if is_so} or {attempt_id}
        for one in asked:
            if one.id in wanted and one.state in ("refuted", "not_stumped"):
                _move_attempt(session, one.id, one.state, "overturn", changes)
        return
    for one in asked:
        if one.state == "verified":
            _move_attempt(session, one.id, one.state, "revoke", changes)


def _move_attempt(
    session: Session, attempt_id: UUID, before: str, action: str, changes: Changes
) -> None:
    session.execute(
        update(Attempt)
        .where(Attempt.id == attempt_id)
        .values(
            state=changes.move(ATTEMPT, attempt_id, before, action), version=Attempt.version + 1
        )
        .execution_options(synchronize_session=False)
    )


def _settle_slot(
    session: Session, submission: Submission, outcome: Outcome, changes: Changes
) -> None:
    # Not the strongest lock: the verdict that refers to the task holds a share of its key already,
    # and two verdicts on one task would wait for each other.
    slot = session.execute(
        select(TaskSlot.id, TaskSlot.state, TaskSlot.offer_id)
        .where(TaskSlot.id == submission.slot_id)
        .with_for_update(key_share=True)
    ).one()
    # A seat that has gone to another offer in the meantime is not this submission's to move.
    if slot.state != "submitted" or slot.offer_id != submission.offer_id:
        return
    task = _locked_task(session, submission.task_id)
    if outcome.is_accepted:
        changes.move(SLOT, slot.id, slot.state, "count")
        _write_slot(session, slot.id, state="counted")
        if outcome.is_task_broken and task.state == "disputed":
            _give_up(session, task, changes)
        elif task.state in ("in_review", "disputed"):
            _resolve_if_whole(session, task, changes)
        return
    released = changes.move(SLOT, slot.id, slot.state, "release")
    _write_slot(session, slot.id, state="released", offer_id=None)
    if outcome.is_task_broken and task.state == "disputed":
        # Nobody is asked again what cannot be answered.
        _give_up(session, task, changes)
        return
    if outcome.is_dropped:
        _do_without(session, task, changes)
        return
    changes.move(SLOT, slot.id, released, "reopen")
    _write_slot(session, slot.id, state="open")
    state = task.state
    if state in ("in_review", "disputed"):
        state = _move_task(session, task, "extend", changes)
    _requeue_if_idle(session, task, state, changes)


def _do_without(session: Session, task: Task, changes: Changes) -> None:
    """A seat of a task rests for good: with the last one of them the task is decided too."""
    seats = set(session.scalars(select(TaskSlot.state).where(TaskSlot.task_id == task.id)))
    if seats <= set(RETIRED):
        event_id = changes.event(Event.TASK_CANCELLED, task.id, task.organisation_id, None)
        why = "answers_rejected"
        state = changes.move(
            TASK, task.id, task.state, "cancel", event_id=event_id, reason_code=why
        )
        _write_task(session, task.id, state)
    elif seats <= {"counted", *RETIRED}:
        _resolve_if_whole(session, task, changes)
    elif task.state == "disputed":
        # The dispute is over, and the other answers are still being reviewed.
        _move_task(session, task, "extend", changes)
        _move_task(session, _locked_task(session, task.id), "review", changes)
    else:
        _requeue_if_idle(session, task, task.state, changes)


def _resolve_if_whole(session: Session, task: Task, changes: Changes) -> None:
    open_seat = exists().where(
        TaskSlot.task_id == task.id, TaskSlot.state.not_in(("counted", *RETIRED))
    )
    if session.scalar(select(open_seat)):
        return
    action = "adjudicate_accept" if task.state == "disputed" else "accept"
    _move_task(session, task, action, changes, Event.TASK_RESOLVED)


def _give_up(session: Session, task: Task, changes: Changes) -> None:
    _move_task(session, task, "adjudicate_reject", changes, Event.TASK_RESOLVED)


def _take_seat_back(session: Session, submission: Submission, changes: Changes) -> None:
    taker = session.scalar(select(TaskSlot.offer_id).where(TaskSlot.id == submission.slot_id))
    if taker is not None and taker != submission.offer_id:
        # An offer that waits for an answer makes room; one that was accepted keeps its seat.
        rescind_offer(session, taker, at=changes.at)
    slot = session.get_one(
        TaskSlot,
        submission.slot_id,
        with_for_update={"key_share": True},
        populate_existing=True,
    )
    task = _locked_task(session, submission.task_id)
    if slot.state != "open" or task.state not in ("queued", "active"):
        return
    for action in ("offer", "claim", "submit", "count"):
        slot.state = changes.move(SLOT, slot.id, slot.state, action, reason_code="overturned")
        slot.offer_id = submission.offer_id
        slot.version += 1
        session.flush()
    if task.state == "queued":
        _move_task(session, task, "start", changes)
        task = _locked_task(session, task.id)
    waiting = exists().where(
        TaskSlot.task_id == task.id, TaskSlot.state.not_in((*FILLED, *RETIRED))
    )
    if not session.scalar(select(waiting)):
        _move_task(session, task, "review", changes)
        _resolve_if_whole(session, _locked_task(session, task.id), changes)


def _vacate_seat(session: Session, submission: Submission, changes: Changes) -> None:
    """Put the seat of an answer that fell up again, where its project still takes work in."""
    slot = session.execute(
        select(TaskSlot.id, TaskSlot.state, TaskSlot.offer_id)
        .where(TaskSlot.id == submission.slot_id)
        .with_for_update(key_share=True)
    ).one()
    if slot.state != "counted" or slot.offer_id != submission.offer_id:
        return
    task = _locked_task(session, submission.task_id)
    why = "answer_voided"
    changes.move(SLOT, slot.id, slot.state, "vacate", reason_code=why)
    _write_slot(session, slot.id, state="released", offer_id=None)
    project = session.scalar(select(Project.state).where(Project.id == task.project_id))
    if project not in ("live", "paused") or task.state not in (*OPEN, *RECALLABLE):
        return
    changes.move(SLOT, slot.id, "released", "reopen", reason_code=why)
    _write_slot(session, slot.id, state="open")
    state = task.state
    if state in RECALLABLE:
        state = changes.move(TASK, task.id, state, "recall", reason_code=why)
        _write_task(session, task.id, state)
    if state in ("in_review", "disputed"):
        state = changes.move(TASK, task.id, state, "extend", reason_code=why)
        _write_task(session, task.id, state)
    _requeue_if_idle(session, task, state, changes, Event.TASK_QUEUED)


def _requeue_if_idle(
    session: Session, task: Task, state: str, changes: Changes, told: Event | None = None
) -> None:
    busy = exists().where(
        TaskSlot.task_id == task.id, TaskSlot.state.in_(("claimed", "submitted", "counted"))
    )
    if state != "active" or session.scalar(select(busy)):
        return
    event_id = changes.event(told, task.id, task.organisation_id, None) if told else None
    changes.move(TASK, task.id, state, "requeue", event_id=event_id)
    _write_task(session, task.id, "queued")


def _locked_task(session: Session, task_id: UUID) -> Task:
    return session.scalars(
        select(Task)
        .where(Task.id == task_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()


def _move_task(
    session: Session, task: Task, action: str, changes: Changes, told: Event | None = None
) -> str:
    event_id = None
    if told is not None:
        event_id = changes.event(told, task.id, task.organisation_id, None)
    state = changes.move(TASK, task.id, task.state, action, event_id=event_id)
    _write_task(session, task.id, state)
    return state


def _write_slot(session: Session, slot_id: UUID, **values: object) -> None:
    session.execute(
        update(TaskSlot)
        .where(TaskSlot.id == slot_id)
        .values(**values, version=TaskSlot.version + 1)
        .execution_options(synchronize_session=False)
    )


def _write_task(session: Session, task_id: UUID, state: str) -> None:
    session.execute(
        update(Task)
        .where(Task.id == task_id)
        .values(state=state, version=Task.version + 1)
        .execution_options(synchronize_session=False)
    )
