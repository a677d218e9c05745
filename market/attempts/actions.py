"""What can be done about attempts: asking, keeping the answers, claiming, handing in.

Everything here runs as the platform, because target models and their spending are not an expert's
to see; each attempt is looked for by its id and its expert together. Locks are taken in one order:
offer, attempt, target model.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import cast
from uuid import UUID

from sqlalchemy import exists, func, select, text
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import Session

from market.attempts.models import Attempt, AttemptResponse
from market.attempts.queries import attempt, attempts_made, beside, own_attempt, responses
from market.attempts.rules import (
    ATTEMPT,
    HANDED_IN,
    MAX_ATTEMPTS,
    MAX_PROMPT,
    MAX_REFERENCE,
    AttemptNotFound,
    AttemptNotReady,
    AttemptOpen,
    LeaseHeld,
    NoOpenSession,
    NoTargetModel,
    PromptUnfit,
    TooManyAttempts,
    cost_minor,
    is_missed,
    most_tokens_in,
)
from market.db import Json, new_id
from market.events import Event, change_state
from market.offers.models import Offer
from market.offers.queries import own_offer
from market.panels.models import PanelModel
from market.panels.queries import panel
from market.panels.rules import PanelUnanswered
from market.projects.models import Project, TargetModel
from market.submissions.actions import submit_work
from market.submissions.models import Submission
from market.tasks.models import Task
from market.work.models import WorkSession


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker needs to ask a target model, with the samples that are still missing.

    Units: `timeout_s` seconds.
    """

    attempt_id: UUID
    base_url: str
    sealed_key: bytes | None
    prompt: str
    parameters: Json
    timeout_s: int
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One sample of a target model's answer, with the very bytes of both sides."""

    output: str
    status: int
    latency_ms: int
    request: bytes
    raw: bytes
    tokens_in: int | None
    tokens_out: int | None
    finish_reason: str | None
    model_version: str | None


def make_attempt(
    session: Session,
    offer_id: UUID,
    *,
    expert_id: UUID,
    prompt: str,
    reference: str,
    at: datetime,
    seed: int = 0,
) -> Attempt:
    """Put a question to the project's target model, and to the others of its panel; jobs ask them
    when this is committed.

    Raises:
        OfferNotFound, NoOpenSession, NoTargetModel, PromptUnfit, TooManyAttempts, AttemptOpen.
    """
    for field, value, limit in (
        ("prompt", prompt, MAX_PROMPT),
        ("reference", reference, MAX_REFERENCE),
    ):
        if not value.strip() or len(value) > limit:
            raise PromptUnfit(field, limit)
    offer = own_offer(session, offer_id, expert_id, locked=True)
    at_work = exists().where(WorkSession.offer_id == offer_id, WorkSession.state == "running")
    if not session.scalar(select(at_work)):
        raise NoOpenSession()
    target, others, rule = _models(session, offer)
    if attempts_made(session, offer_id) >= MAX_ATTEMPTS:
        raise TooManyAttempts()
    statement = (
        insert_or(Attempt)
        .values(
            id=new_id(),
            organisation_id=offer.organisation_id,
            project_id=offer.project_id,
            task_id=offer.task_id,
            offer_id=offer_id,
            expert_id=expert_id,
            target_model_id=target.id,
            prompt=prompt,
            reference=reference,
            parameters=_parameters(target, seed),
            created_at=at,
            state="drafted",
            reserved_minor=Decimal(0),
            stump_rule=rule if others else None,
            version=1,
        )
        .on_conflict_do_nothing(
            # As text: a predicate with parameters matches no index once it is prepared.
            index_elements=["offer_id"],
            index_where=text("state in ('drafted', 'sent') and panel_of is null"),
        )
        .returning(Attempt)
    )
    row: Attempt | None = session.scalar(statement)
    if row is None:
        raise AttemptOpen()
    # At each of the others an attempt of its own, with its evidence, its cost and its outcome.
    made = [
        Attempt(
            organisation_id=row.organisation_id,
            project_id=row.project_id,
            task_id=row.task_id,
            offer_id=offer_id,
            expert_id=expert_id,
            target_model_id=other.id,
            prompt=prompt,
            reference=reference,
            parameters=_parameters(other, seed),
            created_at=at,
            panel_of=row.id,
        )
        for other in others
    ]
    session.add_all(made)
    session.flush()
    for one in (row, *made):
        one.sent_at = at
        _move(session, one, "send", at=at, event=Event.ATTEMPT_SENT, actor_id=expert_id)
    return row


def take_order(session: Session, attempt_id: UUID, *, at: datetime) -> Order | None:
    """Reserve what the missing samples may cost, and the sole right to ask; none when it is done.

    An attempt for which the model's cost cap leaves too little fails here.

    Raises:
        AttemptNotFound, LeaseHeld.
    """
    row = attempt(session, attempt_id, locked=True)
    if row.state != "sent":
        return None
    if row.leased_until is not None and row.leased_until > at:
        raise LeaseHeld(attempt_id)
    target = session.get_one(TargetModel, row.target_model_id, with_for_update=True)
    kept = {response.k for response in responses(session, attempt_id)}
    missing = tuple(k for k in range(_samples(row)) if k not in kept)
    wanted = len(missing) * _worst(row, target)
    if target.spent_minor - row.reserved_minor + wanted > target.cost_cap_minor:
        fail_attempt(
            session,
            attempt_id,
            code="cost_cap",
            reason="the lab's cost cap for this model does not cover another attempt",
            at=at,
        )
        return None
    target.spent_minor += wanted - row.reserved_minor
    row.reserved_minor = wanted
    # Long enough for every try of every sample; a worker that died is followed after it.
    row.leased_until = at + timedelta(seconds=len(missing) * (3 * target.timeout_s + 25) + 5)
    session.flush()
    return Order(
        attempt_id=attempt_id,
        base_url=target.base_url,
        sealed_key=target.sealed_key,
        prompt=row.prompt,
        parameters=row.parameters,
        timeout_s=target.timeout_s,
        missing=missing,
    )


def record_answer(
    session: Session, attempt_id: UUID, k: int, answer: Answer, *, at: datetime
) -> Attempt:
    """Keep one sample as evidence; with the last one the attempt has its response.

    Keeping a sample that is there already changes nothing.

    Raises:
        AttemptNotFound.
    """
    row = attempt(session, attempt_id, locked=True)
    target = session.get_one(TargetModel, row.target_model_id, with_for_update=True)
    worst = _worst(row, target)
    cost = worst
    # A model that does not say what it used is taken to have used all that it might.
    if answer.tokens_in is not None and answer.tokens_out is not None:
        cost = cost_minor(
            answer.tokens_in, answer.tokens_out, target.price_in_minor, target.price_out_minor
        )
    added = session.scalar(
        insert_or(AttemptResponse)
        .values(
            attempt_id=attempt_id,
            k=k,
            organisation_id=row.organisation_id,
            expert_id=row.expert_id,
            output=answer.output,
            status=answer.status,
            latency_ms=answer.latency_ms,
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            cost_minor=cost,
            request=answer.request,
            request_digest=hashlib.sha256(answer.request).digest(),
            raw=answer.raw,
            response_digest=hashlib.sha256(answer.raw).digest(),
            at=at,
            finish_reason=answer.finish_reason,
            model_version=answer.model_version,
        )
        .on_conflict_do_nothing()
        .returning(AttemptResponse.k)
    )
    if added is None or row.state != "sent":
        return row
    held = min(worst, row.reserved_minor)
    row.reserved_minor -= held
    target.spent_minor += cost - held
    if len(responses(session, attempt_id)) == _samples(row):
        _release(session, row)
        row.responded_at = at
        row.leased_until = None
        _move(session, row, "respond", at=at, event=Event.ATTEMPT_RESPONDED)
    return row


def fail_attempt(
    session: Session, attempt_id: UUID, *, code: str, reason: str, at: datetime
) -> Attempt:
    """Say that the model gave no usable answer; the expert may ask again, and its time counts."""
    row = attempt(session, attempt_id, locked=True)
    if row.state != "sent":
        return row
    _release(session, row)
    row.failure_code = code
    row.failure = reason[:1000]
    row.leased_until = None
    _move(session, row, "fail", at=at, event=Event.ATTEMPT_FAILED, reason_code=code)
    return row


def claim_stump(
    session: Session, attempt_id: UUID, *, expert_id: UUID, claims_stump: bool, at: datetime
) -> Attempt:
    """Say whether the model was defeated; a claim is then read by the automatic judge, as advice.

    Where a panel was asked the claim is of those models that a stump must defeat; each is judged.

    Raises:
        AttemptNotFound, StateConflict, PanelUnanswered.
    """
    row = own_attempt(session, attempt_id, expert_id)
    action = "claim" if claims_stump else "concede"
    ATTEMPT.target(row.state, action)
    others = beside(session, row, locked=True)
    waiting = sum(one.state in ("drafted", "sent") for one in others)
    failed = sum(one.state == "failed" for one in others)
    if waiting or (failed and claims_stump and row.stump_rule == "all"):
        raise PanelUnanswered(waiting, failed)
    for one in (row, *(other for other in others if other.state == "responded")):
        one.claims_stump = claims_stump
        one.claimed_at = at
        _move(session, one, action, at=at, actor_id=expert_id)
        if claims_stump:
            one.judge_missed = sum(
                is_missed(response.output, one.reference) for response in responses(session, one.id)
            )
            _move(session, one, "judge", at=at)
    return row


def submit_attempt(
    session: Session,
    offer_id: UUID,
    attempt_id: UUID,
    *,
    expert_id: UUID,
    payload: Json,
    at: datetime,
) -> Submission:
    """Hand in work with the attempt that proves it.

    Raises:
        AttemptNotFound, AttemptNotReady, and what `submit_work` raises.
    """
    # The offer is locked before its attempt, as everywhere.
    own_offer(session, offer_id, expert_id, locked=True)
    row = own_attempt(session, attempt_id, expert_id)
    if row.offer_id != offer_id:
        raise AttemptNotFound(attempt_id)
    if row.state not in HANDED_IN:
        raise AttemptNotReady(row.state)
    before = session.scalar(
        select(Attempt)
        .join(Submission, Submission.attempt_id == Attempt.id)
        .where(Submission.offer_id == offer_id, Attempt.state == "validating")
        .with_for_update(of=Attempt)
    )
    if before is not None:
        # Work that was sent back comes with new evidence: nobody is asked about the old.
        for one in _all_in(session, before, "validating"):
            _move(session, one, "clear", at=at, actor_id=expert_id, reason_code="replaced")
    return submit_work(
        session, offer_id, expert_id=expert_id, payload=payload, attempt_id=attempt_id, at=at
    )


def begin_validation(session: Session, attempt_id: UUID, *, at: datetime) -> bool:
    """Put a claimed stump before reviewers; whether there is a claim to validate."""
    row = attempt(session, attempt_id, locked=True)
    for one in _all_in(session, row, "claimed", "auto_judged"):
        _move(session, one, "validate", at=at)
    return row.state == "validating"


def _models(session: Session, offer: Offer) -> tuple[TargetModel, list[TargetModel], str]:
    """The model that a task asks, the others of its project's panel, and the project's rule."""
    found = session.execute(
        select(
            TargetModel,
            Project.stump_rule,
            # A task of a release's calibration set asks that model alone.
            Task.target_model_id.is_(None)
            & exists().where(PanelModel.project_id == Project.id).correlate(Project),
        )
        .select_from(Task)
        .join(Project, Project.id == Task.project_id)
        .join(
            TargetModel,
            TargetModel.id == func.coalesce(Task.target_model_id, Project.target_model_id),
        )
        .where(Task.id == offer.task_id)
    ).one_or_none()
    if found is None:
        raise NoTargetModel()
    target, rule, has_panel = found
    if not has_panel:
        return target, [], rule
    beside_it = panel(session, offer.project_id)
    return target, [one for one in beside_it if one.id != target.id], rule


def _parameters(model: TargetModel, seed: int) -> Json:
    return {
        "model": model.model,
        "samples": model.samples,
        "max_tokens": model.max_tokens,
        "seed": seed,
    }


def _all_in(session: Session, head: Attempt, *states: str) -> list[Attempt]:
    # The attempt and those beside it, as far as they are in some states.
    return [one for one in (head, *beside(session, head, locked=True)) if one.state in states]


def _move(
    session: Session,
    row: Attempt,
    action: str,
    *,
    at: datetime,
    event: Event | None = None,
    actor_id: UUID | None = None,
    reason_code: str | None = None,
) -> None:
    change_state(
        session,
        ATTEMPT,
        row,
        action,
        at=at,
        event=event,
        organisation_id=row.organisation_id,
        person_id=row.expert_id,
        actor_id=actor_id,
        reason_code=reason_code,
    )


def _samples(row: Attempt) -> int:
    return cast("int", row.parameters["samples"])


def _worst(row: Attempt, target: TargetModel) -> Decimal:
    return cost_minor(
        most_tokens_in(row.prompt),
        cast("int", row.parameters["max_tokens"]),
        target.price_in_minor,
        target.price_out_minor,
    )


def _release(session: Session, row: Attempt) -> None:
    # Gives back to the model's cap what this attempt reserved and did not use.
    if row.reserved_minor:
        target = session.get_one(TargetModel, row.target_model_id, with_for_update=True)
        target.spent_minor -= row.reserved_minor
        row.reserved_minor = Decimal(0)
