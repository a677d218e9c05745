"""How a set comes about, how experts and the model answer it, and what follows from the result.

Everything here runs as the platform: keys and others' answers are nobody else's to read.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.attempts.actions import Answer, Order
from market.attempts.rules import LeaseHeld, NoTargetModel, cost_minor, most_tokens_in
from market.baselines.models import BaselineResult, EvalAnswer, EvalItem, EvalSet
from market.baselines.queries import (
    answers_of,
    board,
    eval_set,
    is_paused_as_saturated,
    is_qualified_in,
    items_of,
    people_begun,
    projects_against,
    was_saturated,
)
from market.baselines.rules import (
    MOST_ANSWER,
    Design,
    EvalAnswerUnfit,
    EvalItemClosed,
    EvalSetFull,
    EvalSetNotFound,
    asked_of_model,
    check_design,
    is_late,
    is_right,
    proposal_of,
)
from market.db import Json, new_id
from market.events import Event, emit
from market.experts.rules import checked_domains
from market.predictions.queries import readable
from market.projects.actions import move_project
from market.projects.models import Project, TargetModel
from market.projects.queries import missing_for_work, project
from market.quality.actions import propose_complexity
from market.quality.queries import Cell, people_of

if TYPE_CHECKING:
    from matching.baseline import Comparison


def create_eval_set(
    session: Session, owner: Project, design: Design, *, by: UUID, at: datetime
) -> EvalSet:
    """Lay down what experts and the project's target model are to answer; the model is asked.

    Raises:
        EvalSetUnfit, DomainInvalid, NoTargetModel.
    """
    check_design(design)
    (domain,) = checked_domains((design.domain,))
    if owner.target_model_id is None:
        raise NoTargetModel()
    made = EvalSet(
        organisation_id=owner.organisation_id,
        project_id=owner.id,
        target_model_id=owner.target_model_id,
        name=design.name.strip(),
        domain=domain,
        complexity=design.complexity,
        limit_s=design.limit_s,
        experts=design.experts,
        items=len(design.items),
        created_at=at,
        created_by=by,
    )
    session.add(made)
    session.flush()
    session.execute(
        insert(EvalItem),
        [
            {
                "id": new_id(),
                "organisation_id": owner.organisation_id,
                "set_id": made.id,
                "number": number,
                "prompt": item.prompt,
                "choices": list(item.choices),
                "key": list(item.key),
            }
            for number, item in enumerate(design.items, start=1)
        ],
    )
    ask_model_again(session, made, at=at, by=by)
    return made


def ask_model_again(session: Session, found: EvalSet, *, by: UUID, at: datetime) -> None:
    """Let the model be asked what it has not answered; items that it has answered stay so."""
    if found.model_state == "done":
        return
    found.model_state, found.failure = "asking", None
    found.version += 1
    session.flush()
    emit(
        session,
        Event.BASELINE_ASKED,
        found.id,
        at=at,
        organisation_id=found.organisation_id,
        actor_id=by,
    )


# Experts ------------------------------------------------------------------------------------------


def put_eval_item(
    session: Session, set_id: UUID, *, person_id: UUID, at: datetime
) -> tuple[EvalItem, EvalAnswer] | None:
    """The item that an expert has open, or the next one; None when it has had all of them.

    Raises:
        EvalSetNotFound, EvalSetFull.
    """
    found = eval_set(session, set_id, lock=True)
    if not is_qualified_in(session, person_id, found.domain):
        raise EvalSetNotFound(set_id)
    had = answers_of(session, set_id, person_id)
    if not had and people_begun(session, set_id) >= found.experts:
        raise EvalSetFull(found.experts)
    for item in items_of(session, set_id):
        put = had.get(item.id)
        if put is None:
            made = EvalAnswer(
                organisation_id=found.organisation_id,
                set_id=set_id,
                item_id=item.id,
                person_id=person_id,
                asked_at=at,
                due_at=at + timedelta(seconds=found.limit_s),
            )
            session.add(made)
            session.flush()
            return item, made
        if put.closed_at is None:
            if not is_late(put.due_at, at):
                return item, put
            _close(session, found, item, put, None, at=at)
    return None


def answer_eval_item(
    session: Session, set_id: UUID, number: int, answer: str, *, person_id: UUID, at: datetime
) -> EvalAnswer:
    """Answer the open item; the same answer twice is one. Whether it was right is not said.

    Raises:
        EvalSetNotFound, EvalItemClosed, EvalAnswerUnfit.
    """
    found = eval_set(session, set_id, lock=True)
    had = answers_of(session, set_id, person_id)
    item = next((one for one in items_of(session, set_id) if one.number == number), None)
    put = None if item is None else had.get(item.id)
    if item is None or put is None:
        raise EvalItemClosed(number)
    if put.closed_at is not None:
        if put.answer != answer:
            raise EvalItemClosed(number)
        return put
    if is_late(put.due_at, at):
        _close(session, found, item, put, None, at=at)
        return put
    if not 0 < len(answer.strip()) <= MOST_ANSWER or "\x00" in answer:
        raise EvalAnswerUnfit(f"1 to {MOST_ANSWER} characters")
    if item.choices and answer not in item.choices:
        raise EvalAnswerUnfit("one of the choices, word for word")
    _close(session, found, item, put, answer, at=at)
    return put


def _close(
    session: Session,
    found: EvalSet,
    item: EvalItem,
    put: EvalAnswer,
    answer: str | None,
    *,
    at: datetime,
) -> None:
    put.answer = answer
    put.closed_at = at if answer is not None else put.due_at
    put.is_right = answer is not None and is_right(answer, item.key)
    session.flush()
    closed = answers_of(session, found.id, put.person_id).values()
    if sum(one.closed_at is not None for one in closed) == found.items:
        emit(
            session,
            Event.BASELINE_ANSWERED,
            found.id,
            at=at,
            organisation_id=found.organisation_id,
            person_id=put.person_id,
        )


# The model ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """One item to ask the model, with what it may cost at most."""

    item_id: UUID
    order: Order


def take_items(session: Session, set_id: UUID, *, at: datetime) -> list[Asked]:
    """The items that the model has not answered, and the sole right to ask them for a while.

    Raises:
        EvalSetNotFound, LeaseHeld.
    """
    found = eval_set(session, set_id, lock=True)
    if found.model_state != "asking":
        return []
    if found.leased_until is not None and found.leased_until > at:
        raise LeaseHeld(set_id)
    target = session.get_one(TargetModel, found.target_model_id)
    had = answers_of(session, set_id, None)
    left = [one for one in items_of(session, set_id) if one.id not in had]
    found.leased_until = at + timedelta(seconds=len(left) * (3 * target.timeout_s + 25) + 5)
    session.flush()
    parameters: Json = {"model": target.model, "max_tokens": target.max_tokens, "seed": 0}
    return [
        Asked(
            one.id,
            Order(
                attempt_id=one.id,
                base_url=target.base_url,
                sealed_key=target.sealed_key,
                prompt=asked_of_model(one.prompt, one.choices),
                parameters=parameters,
                timeout_s=target.timeout_s,
                missing=(0,),
            ),
        )
        for one in left
    ]


def reserve_item(session: Session, set_id: UUID, asked: Asked) -> bool:
    """Take what an item may cost from the model's cap before it is asked; whether it can."""
    found = eval_set(session, set_id)
    target = session.get_one(TargetModel, found.target_model_id, with_for_update=True)
    worst = cost_minor(
        most_tokens_in(asked.order.prompt),
        target.max_tokens,
        target.price_in_minor,
        target.price_out_minor,
    )
    if target.spent_minor + worst > target.cost_cap_minor:
        return False
    target.spent_minor += worst
    session.flush()
    return True


def record_item(
    session: Session, set_id: UUID, asked: Asked, answer: Answer | None, *, at: datetime
) -> None:
    """Keep what the model answered to an item, and give back what it did not cost.

    With no answer, what was reserved for it is given back.
    """
    found = eval_set(session, set_id, lock=True)
    target = session.get_one(TargetModel, found.target_model_id, with_for_update=True)
    prices = (target.price_in_minor, target.price_out_minor)
    worst = cost_minor(most_tokens_in(asked.order.prompt), target.max_tokens, *prices)
    if answer is None:
        target.spent_minor -= worst
        session.flush()
        return
    if answer.tokens_in is not None and answer.tokens_out is not None:
        target.spent_minor += cost_minor(answer.tokens_in, answer.tokens_out, *prices) - worst
    item = session.get_one(EvalItem, asked.item_id)
    session.execute(
        insert(EvalAnswer)
        .values(
            id=new_id(),
            organisation_id=found.organisation_id,
            set_id=set_id,
            item_id=asked.item_id,
            person_id=None,
            asked_at=at,
            due_at=at + timedelta(seconds=found.limit_s),
            answer=answer.output,
            closed_at=at,
            is_right=is_right(answer.output, item.key),
        )
        .on_conflict_do_nothing()
    )


def end_asking(session: Session, set_id: UUID, failure: str | None, *, at: datetime) -> None:
    """Say that the model has answered all items, or why it has not."""
    found = eval_set(session, set_id, lock=True)
    if found.model_state != "asking":
        return
    found.leased_until = None
    found.model_state = "done" if failure is None else "failed"
    found.failure = failure
    found.version += 1
    session.flush()
    if failure is None:
        emit(
            session,
            Event.BASELINE_ANSWERED,
            set_id,
            at=at,
            organisation_id=found.organisation_id,
        )


# What follows -------------------------------------------------------------------------------------


def compared(session: Session, found: EvalSet) -> "Comparison | None":
    """How people and the model stand now; nothing before the model has answered all items."""
    # Loads scipy, which only who compares needs.
    from matching.baseline import compare

    if found.model_state != "done":
        return None
    told = board(session, found)
    return compare(told.right, told.model)


def judge_baseline(session: Session, set_id: UUID, *, at: datetime) -> BaselineResult | None:
    """Write how people and the model stand; where nobody is above the model, stop paying for it.

    Projects that test the model in the domain are paused with a proposal, and go on by themselves
    when a later comparison finds somebody above it.
    """
    found = eval_set(session, set_id, lock=True)
    said = compared(session, found)
    if said is None:
        return None
    before = was_saturated(session, found)
    counted = said.beats[said.is_counted]
    is_saturated = said.standing.value == "saturated"
    rung = _next_rung(session, found, at=at) if is_saturated else None
    made = BaselineResult(
        organisation_id=found.organisation_id,
        set_id=set_id,
        at=at,
        people=int(said.is_counted.sum()),
        human=said.human.value,
        human_low=said.human.low,
        human_high=said.human.high,
        model=said.model.value,
        model_low=said.model.low,
        model_high=said.model.high,
        best_chance=float(counted.max()) if len(counted) else 0.0,
        standing=said.standing.value,
        proposal=proposal_of(rung) if is_saturated else None,
        proposed_complexity=rung,
    )
    session.add(made)
    session.flush()
    if made.proposal is not None and not before:
        emit(
            session,
            Event.BASELINE_SATURATED,
            made.id,
            at=at,
            organisation_id=found.organisation_id,
            data={"domain": found.domain, "proposal": made.proposal},
        )
        pause_saturated(session, found.domain, found.target_model_id, note=made.proposal, at=at)
    elif made.standing == "human" and before:
        resume_cleared(session, found.domain, found.target_model_id, at=at)
    return made


def pause_saturated(
    session: Session, domain: str, target_model_id: UUID, *, note: str, at: datetime
) -> int:
    """Pause every live project that tests a model in a domain; its lab is told why, and decides."""
    found = projects_against(session, domain, target_model_id, "live")
    for project_id in found:
        move_project(session, project_id, "pause", at=at, reason_code="saturated", note=note)
    return len(found)


def resume_cleared(session: Session, domain: str, target_model_id: UUID, *, at: datetime) -> int:
    """Let projects go on that were paused as saturated, and that lack nothing for work."""
    count = 0
    for project_id in projects_against(session, domain, target_model_id, "paused"):
        if not is_paused_as_saturated(session, project_id):
            continue
        if missing_for_work(session, project(session, project_id, lock=True), at):
            continue
        move_project(
            session, project_id, "resume", at=at, reason_code="cleared", note="experts are above it"
        )
        count += 1
    return count


def _next_rung(session: Session, found: EvalSet, *, at: datetime) -> int | None:
    """The complexity above the set's own at which experts are expected to be back."""
    level = found.complexity - 1
    cell = Cell(found.domain, level, found.target_model_id)
    if not people_of(session, cell) or readable(session) is None:
        return None
    said = propose_complexity(session, cell, at=at, is_dry=True).level
    return None if said is None or said <= level else said + 1
