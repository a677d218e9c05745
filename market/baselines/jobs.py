"""Asks models what experts are asked, compares them, and stops what nobody can do any more."""

from uuid import UUID

from market.attempts.jobs import ask
from market.attempts.rules import AnswerFailed
from market.baselines.actions import (
    end_asking,
    judge_baseline,
    pause_saturated,
    record_item,
    reserve_item,
    take_items,
)
from market.baselines.rules import proposal_of
from market.broker import job
from market.db import database, now
from market.quality.models import FrontierAlarm
from market.settings import in_force


@job(queue="default", line="slow", max_retries=8, time_limit_s=7200)
def ask_eval_items(set_id: str) -> None:
    """Ask the model every item of a set that it has not answered; a failure ends the asking."""
    which = UUID(set_id)
    with database.begin() as session:
        left = take_items(session, which, at=now())
    failure = None
    for asked in left:
        with database.begin() as session:
            has_money = reserve_item(session, which, asked)
        if not has_money:
            failure = "the lab's cost cap for this model does not cover another item"
            break
        try:
            answer = ask(asked.order, 0, allow_private=in_force.settings.allow_private_targets)
        except AnswerFailed as failed:
            answer, failure = None, failed.reason
        with database.begin() as session:
            record_item(session, which, asked, answer, at=now())
        if failure is not None:
            break
    with database.begin() as session:
        end_asking(session, which, failure, at=now())


@job(queue="solver", max_retries=4)
def compare_baseline(set_id: str) -> None:
    """See how people and the model stand, now that one of them has finished."""
    with database.begin() as session:
        judge_baseline(session, UUID(set_id), at=now())


@job(queue="default", max_retries=8)
def pause_exhausted(alarm_id: str) -> None:
    """Pause projects of a domain and model in which a level ran dry and none is left to go to."""
    with database.begin() as session:
        alarm = session.get(FrontierAlarm, UUID(alarm_id))
        if alarm is not None and alarm.proposed_level is None:
            note = f"{alarm.reason}. {proposal_of(None)}"
            pause_saturated(session, alarm.domain, alarm.target_model_id, note=note, at=now())
