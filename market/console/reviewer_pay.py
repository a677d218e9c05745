"""Pages of a reviewer about money: its tests are paid, and it says where."""

from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect, Template

from market.console.forms import Form, field
from market.console.frame import back_to, page
from market.console.visitors import REVIEWER, my_id
from market.db import PLATFORM, database, now
from market.earnings.queries import statement_lines, statement_totals
from market.payees.actions import become_payee
from market.payees.routes import onboarding_url
from market.people.queries import person
from market.people.rules import PersonNotFound
from market.treasury.queries import what_is_owed
from payouts.payees import payee_of, payee_state

HOME = "/console/reviewer"


@get("/earnings", guards=REVIEWER, sync_to_thread=True)
def get_earnings(request: Request[Any, Any, Any]) -> Template:
    """Every line of pay with what it is for, what is owed, and where it goes."""
    me = my_id(request)
    with database.begin() as session:
        lines = statement_lines(session, me)
        return page(
            request,
            "reviewer/earnings.html",
            lines=lines[::-1],
            totals=statement_totals(lines),
            owed=what_is_owed(session, me),
            payee=payee_state(session, me) if payee_of(session, me) is not None else None,
            pay_home=HOME,
        )


@post("/payee", guards=REVIEWER, sync_to_thread=True, status_code=303)
def post_payee(request: Request[Any, Any, Any], data: Form) -> Redirect:
    """Say in which country one is paid; Stripe opens an account for it."""
    # As the platform, which alone plans calls to Stripe; the payee is the visitor.
    with database.begin(PLATFORM) as session:
        me = person(session, my_id(request))
        if me is None:
            raise PersonNotFound(my_id(request))
        country = field(data, "country").upper()
        become_payee(session, expert_id=me.id, country=country, email=me.email, at=now())
    return back_to(f"{HOME}/earnings", "payee")


@post("/onboarding", guards=REVIEWER, sync_to_thread=True, status_code=200)
def post_onboarding(request: Request[Any, Any, Any], data: Form) -> Template:
    """A fresh page of Stripe's, as a plain link: a form may not lead away from here."""
    del data
    url = onboarding_url(my_id(request), home=HOME)
    return page(request, "expert/onboarding.html", url=url, pay_home=HOME)


ROUTES: list[HTTPRouteHandler] = [get_earnings, post_payee, post_onboarding]
