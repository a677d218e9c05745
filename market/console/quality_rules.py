"""Pages of ops about quality rules: write one, try it on history, start it, see whom it hit."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template

from market.console.forms import Form, field, lines, once, tried, whole_number
from market.console.frame import Notice, page
from market.console.visitors import OPS, FormUnreadable, my_id
from market.db import database, now
from market.http import page_of, read_id, wire_id
from market.people.queries import names_of
from market.quality_rules.actions import end_rule, make_rule, simulate_rule, start_rule
from market.quality_rules.models import QualityRule, RuleFiring
from market.quality_rules.queries import (
    firing_outcomes,
    firings,
    quality_rule,
    quality_rules,
    simulations,
    terms_of,
)
from market.quality_rules.rules import ACTIONS, SIGNALS, RuleTerms

PAGE = 25
HOME = "/console/ops/rules"

DOES = {
    "watch": "is watched",
    "review": "has all work reviewed",
    "limit": "gets no new work there",
    "notify": "is told of to ops",
}
"""What a rule does, said of whom it hits."""


@get("/rules", guards=OPS, sync_to_thread=True)
def get_rules(
    request: Request[Any, Any, Any],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """Every version of every rule, and a form for the next."""
    del said
    return _rules(request, {"action": "watch", "lasts_days": "14", "stands_days": "90"}, cursor)


def _rules(
    request: Request[Any, Any, Any],
    typed: Mapping[str, str],
    cursor: str | None = None,
    *,
    status: int = 200,
    notice: Notice | None = None,
) -> Template:
    with database.begin() as session:
        rows, following = page_of(
            session,
            quality_rules(),
            QualityRule.id,
            limit=PAGE,
            cursor=cursor,
            filters="quality rules",
        )
        return page(
            request,
            "ops/rules.html",
            status=status,
            notice=notice,
            rows=[(row, terms_of(row)) for row in rows],
            fired=firing_outcomes(session, [row.id for row in rows]),
            following=following,
            typed=typed,
            actions=ACTIONS,
            does=DOES,
            signals=list(SIGNALS),
        )


@post("/rules", guards=OPS, sync_to_thread=True, status_code=303)
def post_rule(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Write a rule, or the next version of one."""

    def act() -> str:
        stands = whole_number(data, "stands_days", "days", least=1, most=366, absent=90)
        try:
            terms = msgspec.convert(
                {
                    "when": field(data, "when"),
                    "action": field(data, "action"),
                    "lasts_days": whole_number(
                        data, "lasts_days", "days", least=1, most=180, absent=14
                    ),
                    "reason_code": field(data, "reason_code"),
                    "text": field(data, "text"),
                    "domains": lines(data, "domains"),
                },
                RuleTerms,
            )
        except msgspec.ValidationError as refused:
            raise FormUnreadable(str(refused).lower()) from None
        at = now()
        with database.begin() as session:
            made = make_rule(
                session,
                field(data, "name"),
                terms,
                expires_at=at + timedelta(days=stands),
                owner_id=my_id(request),
                at=at,
            )
            return f"{HOME}/{wire_id('qrl', made.id)}?said=rule-written"

    return tried(data, act, partial(_rules, request, data))


@get("/rules/{rule_id:str}", guards=OPS, sync_to_thread=True)
def get_rule(
    request: Request[Any, Any, Any],
    rule_id: FromPath[str],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """One version of a rule: what it says, what it would have done, whom it hit."""
    del said
    with database.begin() as session:
        found = quality_rule(session, read_id("qrl", rule_id))
        rows, following = page_of(
            session,
            firings(rule_id=found.id),
            RuleFiring.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"firings {found.id}",
        )
        tried = simulations(session, found.id)
        hits = tried[0].hits["people"][:PAGE] if tried else []
        people = {row.expert_id for row in rows} | {found.owner_id}
        people |= {read_id("per", one["expert_id"]) for one in hits}
        return page(
            request,
            "ops/rule.html",
            rule=found,
            terms=terms_of(found),
            tried=tried,
            hits=[(read_id("per", one["expert_id"]), one) for one in hits],
            rows=rows,
            following=following,
            fired=firing_outcomes(session, [found.id]).get(found.id, (0, 0)),
            names=names_of(session, list(people)),
            does=DOES,
        )


@post("/rules/{rule_id:str}/{action:str}", guards=OPS, sync_to_thread=True, status_code=303)
def post_rule_step(
    request: Request[Any, Any, Any], rule_id: FromPath[str], action: FromPath[str], data: Form
) -> Redirect:
    """Try a rule on history, start it, or end it."""
    which = read_id("qrl", rule_id)
    if action not in ("simulate", "start", "end"):
        raise FormUnreadable("a rule is simulated, started or ended")

    def act() -> str:
        at = now()
        with database.begin() as session:
            if action == "simulate":
                days = whole_number(data, "days", "days", least=1, most=366, absent=90)
                simulate_rule(
                    session,
                    which,
                    since=at - timedelta(days=days),
                    until=at,
                    at=at,
                    actor_id=my_id(request),
                )
            else:
                step = start_rule if action == "start" else end_rule
                step(session, which, at=at, actor_id=my_id(request))
        return f"{HOME}/{wire_id('qrl', which)}?said=rule-{action}"

    return once(data, act)


ROUTES: list[HTTPRouteHandler] = [get_rules, post_rule, get_rule, post_rule_step]
