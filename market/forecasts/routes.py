"""When work comes, when it is done, what it costs and why it waits, over HTTP."""

from datetime import datetime, timedelta
from uuid import UUID

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from market.auth import Part, Principal
from market.db import PLATFORM, database, now
from market.experts.rules import ExpertNotFound
from market.explanations.queries import work_for
from market.expressions.rules import told
from market.forecasts.queries import Pace, ProjectForecast, next_offer, project_forecast, waiting
from market.forecasts.rules import LIKELIHOOD, LOOKED_BACK_D, Interval, seats_paid
from market.http import Wire, get, read_id, wire_id
from market.projects.queries import budget, project
from market.projects.routes import MoneyOut
from market.tasks.queries import task


class ReasonOut(Wire):
    """One reason, as a code for machines and in words."""

    code: str
    detail: str


class NearMissOut(Wire):
    """A project that would take you but for one condition, how many of its open tasks, and when the
    condition passes by itself, where that is known.
    """

    project_id: str
    name: str
    tasks: int
    code: str
    detail: str
    until: datetime | None


class NextOfferOut(Wire):
    """When your next offer may come, if work goes on coming as it did and all who share your
    domains are as likely to get it; with the chance named, between `earliest` and `latest`.
    """

    median: datetime
    earliest: datetime
    latest: datetime | None
    likelihood: float
    offers: int
    experts: int
    days: int


class AvailabilityOut(Wire):
    """How many open tasks fit you now, and why you have no offer of one.

    There is no forecast where nothing was offered in your domains of late. For each of the
    `missed_offers` that you left unanswered since your last yes or no, `offered_at_once` is one
    less than your profile says, and never less than one.
    """

    missed_offers: int
    offered_at_once: int
    fitting_tasks: int
    reasons: list[ReasonOut]
    near_misses: list[NearMissOut]
    next_offer: NextOfferOut | None


class StepForecastOut(Wire):
    """Whom a step takes: how many experts, with how many hours a week, at which rates.

    Units: `starts_after_s` seconds from the launch, if nobody claims before. Numbers about 1 to 4
    people are null for a lab.
    """

    expression: str | None
    starts_after_s: int
    experts: int | None
    weekly_hours: int | None
    lowest_rate: MoneyOut | None
    highest_rate: MoneyOut | None
    costliest: str | None


class PaceOut(Wire):
    """The record that a forecast rests on: answers handed in on the `project` itself or, before
    there are any, by the `pool` of experts that it takes, in the same domains.
    """

    kind: str
    answers: int
    experts: int | None
    days: int
    answers_a_day: float


class FinishOut(Wire):
    """When the last answer may be handed in, if the pace stays; reviews come after."""

    median: datetime
    earliest: datetime
    latest: datetime | None
    likelihood: float


class CostOut(Wire):
    """What the work is expected to cost with the fee: at the mean rate of the pool, and at its
    lowest and highest; null where there is no pool.
    """

    expected: MoneyOut | None
    lowest: MoneyOut | None
    highest: MoneyOut | None
    budget_free: MoneyOut
    seats_paid: int | None


class ForecastOut(Wire):
    """Who could do a project, when it would be done, and what it would cost, as it stands now.

    `finish` is null where nothing was handed in of late that it could rest on; `unfounded` says so.
    `least_days` is what the work takes if all hours of the widest step go to it.
    """

    project_id: str
    answers_wanted: int
    work_hours: float
    steps: list[StepForecastOut]
    pace: PaceOut | None
    finish: FinishOut | None
    unfounded: str | None
    least_days: float | None
    cost: CostOut


class LeftOut(Wire):
    """How many experts a condition leaves, of those whom the ones before left; null for a lab where
    it is 1 to 4.
    """

    rule: str
    experts: int | None


class LastRunOut(Wire):
    """What the last matching run says of the task. Units: `price` in units of value."""

    run_id: str
    rule: str
    sentence: str
    candidates: int | None
    price: float | None


class WaitingOut(Wire):
    """Why a task waits for an expert: the rule that binds, and whom each condition leaves."""

    task_id: str
    open_seats: int
    offers_out: int
    rule: str
    sentence: str
    left: list[LeftOut]
    last_run: LastRunOut | None


@get("/work-availability", scope="offer:read", tags=["Offers"])
def get_work_availability(principal: NamedDependency[Principal]) -> AvailabilityOut:
    """Why no work is offered to you at this moment, which projects one condition keeps from you,
    and when the next offer may come; never a soft no, always the reason.
    """
    at = now()
    # As the platform, because what is counted is work that the expert may not see yet.
    with database.begin(PLATFORM) as session:
        found = work_for(session, principal.person_id, at=at)
        wait = next_offer(session, principal.person_id, at=at)
    if found is None:
        raise ExpertNotFound(principal.person_id)
    coming = None
    if wait is not None:
        median, earliest, latest = _dates(wait.interval, at)
        coming = NextOfferOut(
            median=median,
            earliest=earliest,
            latest=latest,
            likelihood=LIKELIHOOD,
            offers=wait.offers,
            experts=wait.experts,
            days=LOOKED_BACK_D,
        )
    return AvailabilityOut(
        missed_offers=found.pace.missed,
        offered_at_once=found.pace.at_once,
        fitting_tasks=found.fitting_tasks,
        reasons=[ReasonOut(code=code, detail=words) for code, words in found.reasons],
        near_misses=[
            NearMissOut(
                project_id=wire_id("prj", one.project_id),
                name=one.name,
                tasks=one.tasks,
                code=one.code,
                detail=one.detail,
                until=one.until,
            )
            for one in found.near_misses
        ],
        next_offer=coming,
    )


@get("/projects/{project_id:str}/forecast", scope="project:read", tags=["Projects"])
def get_project_forecast(
    project_id: FromPath[str], principal: NamedDependency[Principal]
) -> ForecastOut:
    """Before a launch and after: how many experts each step takes, when the last answer comes at
    the pace recorded, and what all of it costs.
    """
    return forecast_told(read_id("prj", project_id), is_lab=principal.part is Part.LAB, at=now())


def forecast_told(project_id: UUID, *, is_lab: bool, at: datetime) -> ForecastOut:
    """The forecast of a project as the caller may know it; it opens transactions of its own.

    Raises:
        ProjectNotFound.
    """
    with database.begin() as session:
        found = project(session, project_id)
        free = budget(session, found).free_minor
    # As the platform, because experts are counted whom a lab cannot see.
    with database.begin(PLATFORM) as session:
        seen = project_forecast(session, found, at=at)
    finish = None
    if seen.finish is not None:
        median, earliest, latest = _dates(seen.finish, at)
        finish = FinishOut(median=median, earliest=earliest, latest=latest, likelihood=LIKELIHOOD)
    return ForecastOut(
        project_id=wire_id("prj", found.id),
        answers_wanted=seen.seats,
        work_hours=round(seen.work_s / 3600, 2),
        steps=_steps_out(seen, is_lab=is_lab),
        pace=_pace_out(seen.pace, is_lab=is_lab),
        finish=finish,
        unfounded=_unfounded(seen),
        least_days=seen.least_d,
        cost=_cost_out(seen, free, is_lab=is_lab),
    )


@get("/tasks/{task_id:str}/waiting", scope="task:read", tags=["Tasks"])
def get_task_waiting(task_id: FromPath[str], principal: NamedDependency[Principal]) -> WaitingOut:
    """Why a task waits: the rule that binds, how many experts each condition leaves, and the price
    that its seat had in the last matching run.
    """
    return waiting_told(read_id("tsk", task_id), is_lab=principal.part is Part.LAB, at=now())


def waiting_told(task_id: UUID, *, is_lab: bool, at: datetime) -> WaitingOut:
    """Why a task waits, as the caller may know it; it opens transactions of its own.

    Raises:
        TaskNotFound.
    """
    with database.begin() as session:
        wanted = task(session, task_id)
    # As the platform, because experts are counted whom a lab cannot see.
    with database.begin(PLATFORM) as session:
        found = waiting(session, wanted, at=at)
    last = None
    if found.run_id is not None and found.run_rule is not None:
        last = LastRunOut(
            run_id=wire_id("mrn", found.run_id),
            rule=found.run_rule,
            sentence=found.run_sentence or "",
            candidates=told(found.run_candidates or 0, is_lab=is_lab),
            price=found.price,
        )
    return WaitingOut(
        task_id=wire_id("tsk", wanted.id),
        open_seats=found.open_seats,
        offers_out=found.offers_out,
        rule=found.rule,
        sentence=_sentence(found.rule, found.sentence, found.left[-1][1], is_lab=is_lab),
        left=[LeftOut(rule=name, experts=told(n, is_lab=is_lab)) for name, n in found.left],
        last_run=last,
    )


def _sentence(rule: str, sentence: str, experts: int, *, is_lab: bool) -> str:
    if rule == "next_run" and told(experts, is_lab=is_lab) is None:
        return "some experts fit; the next run decides who gets it"
    return sentence


def _dates(interval: Interval, at: datetime) -> tuple[datetime, datetime, datetime | None]:
    latest = None if interval.high_d is None else at + timedelta(days=interval.high_d)
    # A pace that ends in the next century has no date worth naming.
    median = at + timedelta(days=min(interval.median_d, LONGEST_SHOWN_D))
    return median, at + timedelta(days=min(interval.low_d, LONGEST_SHOWN_D)), latest


LONGEST_SHOWN_D = 36_500.0


def _steps_out(seen: ProjectForecast, *, is_lab: bool) -> list[StepForecastOut]:
    found = []
    for one in seen.steps:
        is_told = told(one.experts, is_lab=is_lab) is not None
        lowest, highest = (
            None
            if rate is None or not is_told
            else MoneyOut(amount_minor=rate, currency=seen.currency)
            for rate in (one.rate_lowest, one.rate_highest)
        )
        found.append(
            StepForecastOut(
                expression=one.expression,
                starts_after_s=one.starts_after_s,
                experts=one.experts if is_told else None,
                weekly_hours=one.weekly_hours if is_told else None,
                lowest_rate=lowest,
                highest_rate=highest,
                costliest=one.costliest,
            )
        )
    return found


def _money(amount_minor: int | None, seen: ProjectForecast) -> MoneyOut | None:
    if amount_minor is None:
        return None
    return MoneyOut(amount_minor=amount_minor, currency=seen.currency)


def _pace_out(pace: Pace | None, *, is_lab: bool) -> PaceOut | None:
    if pace is None:
        return None
    return PaceOut(
        kind=pace.kind,
        answers=pace.answers,
        experts=told(pace.experts, is_lab=is_lab),
        days=len(pace.daily),
        answers_a_day=round(pace.answers / len(pace.daily), 3),
    )


def _unfounded(seen: ProjectForecast) -> str | None:
    if not seen.seats:
        return "no answer is wanted: there are no tasks, or every seat is filled"
    if not seen.steps[-1].experts:
        return "nobody is taken by the widest step"
    if seen.pace is None:
        return (
            f"in {LOOKED_BACK_D} days nothing was handed in by the experts whom the widest step"
            " takes, in the domains of the tasks: there is no pace to go by"
        )
    return None


def _cost_out(seen: ProjectForecast, free_minor: int, *, is_lab: bool) -> CostOut:
    # The rates of a few people would be told by what they cost.
    is_told = told(seen.steps[-1].experts, is_lab=is_lab) is not None
    lowest, expected, highest = (
        None
        if amount is None or not is_told
        else MoneyOut(amount_minor=amount, currency=seen.currency)
        for amount in (seen.lowest_minor, seen.expected_minor, seen.highest_minor)
    )
    return CostOut(
        expected=expected,
        lowest=lowest,
        highest=highest,
        budget_free=MoneyOut(amount_minor=free_minor, currency=seen.currency),
        seats_paid=None
        if expected is None
        else seats_paid(free_minor, expected.amount_minor, seen.seats),
    )


ROUTES: list[HTTPRouteHandler] = [get_work_availability, get_project_forecast, get_task_waiting]
