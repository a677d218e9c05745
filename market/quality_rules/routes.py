"""Quality rules over HTTP, for ops: write, simulate, start, end, and see whom they hit."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta
from sqlalchemy.orm import Session

from market.auth import Principal
from market.db import database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    page,
    page_of,
    post,
    read_id,
    wire_id,
    wire_ids,
)
from market.quality_rules.actions import end_rule, make_rule, simulate_rule, start_rule
from market.quality_rules.models import QualityRule, RuleFiring, RuleSimulation
from market.quality_rules.queries import (
    firing_outcomes,
    firings,
    quality_rule,
    quality_rules,
    simulations,
    terms_of,
)
from market.quality_rules.rules import SIGNALS, Action, RuleTerms

Moment = Annotated[datetime, Meta(tz=True)]


class QualityRuleIn(Wire):
    """A rule: on which condition, what is done, for how many days, and what its expert reads.

    Under a name that is taken it is the next version. You answer for it until it expires.
    """

    name: str
    when: Annotated[str, Meta(min_length=1, max_length=2000)]
    action: Action
    lasts_days: Annotated[int, Meta(ge=1, le=180)]
    reason_code: Annotated[str, Meta(min_length=1, max_length=100)]
    text: Annotated[str, Meta(min_length=40, max_length=2000)]
    expires_at: Moment
    domains: tuple[str, ...] = ()


class QualityRuleOut(Wire):
    """One version of a rule; `fired` people were hit, of whom `freed` won an appeal."""

    id: str
    name: str
    number: int
    state: str
    when: str
    action: Action
    lasts_days: int
    reason_code: str
    text: str
    domains: list[str]
    owner_id: str
    made_at: datetime
    expires_at: datetime
    started_at: datetime | None
    started_by: str | None
    fired: int
    freed: int


class StretchIn(Wire):
    """A stretch of history."""

    since: Moment
    until: Moment


class SimulatedHitOut(Wire):
    """Somebody who would have been hit: when first, what was known, and what came within a month.

    `was_wrong` where that was accepted as often as everybody's work; null where too little came.
    """

    expert_id: str
    at: datetime
    known: dict[str, str]
    later: int
    later_accepted: int
    was_wrong: bool | None


class SimulationOut(Wire):
    """Whom a rule would have hit; `wrong` of `judged` people wrongly, with a 95 % interval."""

    id: str
    rule_id: str
    at: datetime
    since: datetime
    until: datetime
    looks: int
    people: int
    judged: int
    wrong: int
    low: float
    high: float
    usual: float | None
    hits: list[SimulatedHitOut]


class RuleMoveIn(Wire):
    """Start a draft; or end it, or what is in force."""

    action: Literal["start", "end"]


class FiringOut(Wire):
    """Somebody whom a rule hit: what was known, what they were told, and what they can appeal."""

    id: str
    rule_id: str
    expert_id: str
    at: datetime
    known: dict[str, str]
    told: str
    measure_id: str | None


class SignalOut(Wire):
    """Something that a rule can ask of an expert."""

    name: str
    kind: str
    about: str
    example: str


@get("/quality-rules/signals", scope="expert:read", tags=["Quality rules"])
def get_signals() -> list[SignalOut]:
    """What the condition of a rule can ask about."""
    return [
        SignalOut(name=one.name, kind=one.kind, about=one.about, example=one.example)
        for one in SIGNALS
    ]


@post("/quality-rules", scope="expert:write", status_code=HTTP_201_CREATED, tags=["Quality rules"])
def post_quality_rule(
    data: JSONBody[QualityRuleIn], principal: NamedDependency[Principal]
) -> QualityRuleOut:
    """Write a rule, or the next version of one; nothing follows before it is started."""
    with database.begin() as session:
        made = make_rule(
            session,
            data.name,
            RuleTerms(
                when=data.when,
                action=data.action,
                lasts_days=data.lasts_days,
                reason_code=data.reason_code,
                text=data.text,
                domains=data.domains,
            ),
            expires_at=data.expires_at,
            owner_id=principal.person_id,
            at=now(),
        )
        return _rules_out(session, [made])[0]


@get("/quality-rules", scope="expert:read", tags=["Quality rules"])
def get_quality_rules(
    principal: NamedDependency[Principal],
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[QualityRuleOut]:
    """Versions of rules, newest first."""
    with database.begin() as session:
        rows, following = page_of(
            session,
            quality_rules(state=in_state),
            QualityRule.id,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|quality rules|{in_state}",
        )
        return page(_rules_out(session, rows), following)


@get("/quality-rules/{rule_id:str}", scope="expert:read", tags=["Quality rules"])
def get_quality_rule(rule_id: FromPath[str]) -> QualityRuleOut:
    """One version of a rule."""
    with database.begin() as session:
        found = quality_rule(session, read_id("qrl", rule_id))
        return _rules_out(session, [found])[0]


@post(
    "/quality-rules/{rule_id:str}/simulations",
    scope="expert:write",
    status_code=HTTP_201_CREATED,
    tags=["Quality rules"],
)
def post_simulation(
    rule_id: FromPath[str], data: JSONBody[StretchIn], principal: NamedDependency[Principal]
) -> SimulationOut:
    """Try a rule on history: whom it would have hit, and how often wrongly. Touches nobody."""
    with database.begin() as session:
        made = simulate_rule(
            session,
            read_id("qrl", rule_id),
            since=data.since,
            until=data.until,
            at=now(),
            actor_id=principal.person_id,
        )
        return _simulation_out(made)


@get("/quality-rules/{rule_id:str}/simulations", scope="expert:read", tags=["Quality rules"])
def get_simulations(rule_id: FromPath[str]) -> list[SimulationOut]:
    """The simulations of a rule, the latest first."""
    with database.begin() as session:
        found = quality_rule(session, read_id("qrl", rule_id))
        return [_simulation_out(one) for one in simulations(session, found.id)]


@post(
    "/quality-rules/{rule_id:str}/transitions",
    scope="expert:write",
    status_code=HTTP_200_OK,
    tags=["Quality rules"],
)
def post_rule_move(
    rule_id: FromPath[str], data: JSONBody[RuleMoveIn], principal: NamedDependency[Principal]
) -> QualityRuleOut:
    """Start a rule that was simulated, or end one."""
    act = start_rule if data.action == "start" else end_rule
    with database.begin() as session:
        found = act(session, read_id("qrl", rule_id), at=now(), actor_id=principal.person_id)
        return _rules_out(session, [found])[0]


@get("/quality-rules/{rule_id:str}/firings", scope="expert:read", tags=["Quality rules"])
def get_firings(
    rule_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[FiringOut]:
    """Whom a rule hit, newest first."""
    with database.begin() as session:
        found = quality_rule(session, read_id("qrl", rule_id))
        return listed(
            session,
            firings(rule_id=found.id),
            RuleFiring.id,
            _firing_out,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|firings|{found.id}",
        )


def _rules_out(session: Session, rows: Sequence[QualityRule]) -> list[QualityRuleOut]:
    counted: dict[UUID, tuple[int, int]] = firing_outcomes(session, [row.id for row in rows])
    found = []
    for row in rows:
        terms = terms_of(row)
        fired, freed = counted.get(row.id, (0, 0))
        found.append(
            QualityRuleOut(
                id=wire_id("qrl", row.id),
                name=row.name,
                number=row.number,
                state=row.state,
                when=terms.when,
                action=terms.action,
                lasts_days=terms.lasts_days,
                reason_code=terms.reason_code,
                text=terms.text,
                domains=list(terms.domains),
                owner_id=wire_id("per", row.owner_id),
                made_at=row.made_at,
                expires_at=row.expires_at,
                started_at=row.started_at,
                started_by=wire_ids("per", row.started_by),
                fired=fired,
                freed=freed,
            )
        )
    return found


def _simulation_out(row: RuleSimulation) -> SimulationOut:
    return SimulationOut(
        id=wire_id("qsm", row.id),
        rule_id=wire_id("qrl", row.rule_id),
        at=row.at,
        since=row.since,
        until=row.until,
        looks=row.looks,
        people=row.people,
        judged=row.judged,
        wrong=row.wrong,
        low=row.low,
        high=row.high,
        usual=row.usual,
        hits=[
            SimulatedHitOut(**{**one, "at": datetime.fromisoformat(one["at"])})
            for one in row.hits["people"]
        ],
    )


def _firing_out(row: RuleFiring) -> FiringOut:
    return FiringOut(
        id=wire_id("qfi", row.id),
        rule_id=wire_id("qrl", row.rule_id),
        expert_id=wire_id("per", row.expert_id),
        at=row.at,
        known=row.known,
        told=row.told,
        measure_id=wire_ids("mea", row.measure_id),
    )


ROUTES: list[HTTPRouteHandler] = [
    get_signals,
    post_quality_rule,
    get_quality_rules,
    get_quality_rule,
    post_simulation,
    get_simulations,
    post_rule_move,
    get_firings,
]
