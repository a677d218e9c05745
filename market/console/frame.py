"""What every page shares: its menu, its words for numbers and times, and its headers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import jinja2
from litestar import Request, Response
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Redirect, Template
from litestar.template import TemplateConfig

from market.auth import Part
from market.console.visitors import Visitor
from market.db import PLATFORM, database
from market.http import wire_id
from market.people.queries import person

HERE = Path(__file__).parent
HOME = {Part.OPS: "/console/ops", Part.LAB: "/console/lab", Part.EXPERT: "/console/expert"}

MENUS: dict[Part, tuple[tuple[str, str], ...]] = {
    Part.OPS: (
        ("/console/ops", "Today"),
        ("/console/ops/runs", "Matching runs"),
        ("/console/ops/offers", "Offers"),
        ("/console/ops/experts", "Experts"),
        ("/console/ops/money", "Money"),
        ("/console/ops/queues", "Queues"),
    ),
    Part.LAB: (("/console/lab", "Projects"), ("/console/lab/money", "Spend")),
    Part.EXPERT: (
        ("/console/expert", "Offers"),
        ("/console/expert/work", "Work"),
        ("/console/expert/earnings", "Earnings"),
    ),
    Part.REVIEWER: (("/console/reviewer", "Reviews"),),
}

TONES = {
    "good": {
        "accepted",
        "completed",
        "succeeded",
        "paid",
        "transferred",
        "counted",
        "good",
        "final",
    },
    "live": {"live", "running", "active", "pending", "queued", "in_review", "sent", "calibrating"},
    "warn": {"paused", "held", "rework_requested", "draining", "watched", "idle", "limited"},
    "bad": {"failed", "rejected", "cancelled", "returned", "reversed", "suspended", "abandoned"},
}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """A line above a page that says what just happened."""

    text: str
    tone: str = ""


def money(amount_minor: int | None, currency: str = "USD") -> str:
    """An amount as people write it; minor units are hundredths for the console's currencies."""
    if amount_minor is None:
        return "–"
    sign = "−" if amount_minor < 0 else ""
    whole, cents = divmod(abs(int(amount_minor)), 100)
    return f"{sign}{whole:,}.{cents:02d} {currency}"


def duration(seconds: int | None) -> str:
    """A stretch of time in hours and minutes; seconds only below an hour."""
    if seconds is None:
        return "–"
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {left:02d} s" if minutes else f"{left} s"


def when(at: datetime | None, zone: str = "UTC") -> str:
    """A moment, in a zone; its name is said where it is not UTC."""
    if at is None:
        return "–"
    try:
        local = at.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError):
        local = at.astimezone(UTC)
        zone = "UTC"
    suffix = "" if zone == "UTC" else f" {zone.rsplit('/', 1)[-1].replace('_', ' ')}"
    return f"{local:%-d %b %Y, %H:%M}{suffix}"


def share(part: float | None) -> str:
    """A share in per cent."""
    return "–" if part is None else f"{part:.1%}"


def count(number: float | None) -> str:
    """A whole number with its thousands apart."""
    return "–" if number is None else f"{int(number):,}"


def words(text: str) -> str:
    """A state or a slug as words."""
    return text.replace("_", " ").replace(".", " · ")


def tone(state: str) -> str:
    """The colour that helps to read a state."""
    return next((name for name, states in TONES.items() if state in states), "")


def _wire(value: UUID, prefix: str) -> str:
    return wire_id(prefix, value)


def template_config() -> TemplateConfig[JinjaTemplateEngine]:
    """The pages' templates; a name that a page forgot to give is an error and not a blank."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        money=money,
        duration=duration,
        when=when,
        share=share,
        count=count,
        words=words,
        tone=tone,
        wire=_wire,
    )
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(environment))


def visitor_of(request: Request[Any, Any, Any]) -> Visitor | None:
    """Whoever looks at the page, if anyone came in."""
    state = request.scope["state"]
    principal = state.get("principal")
    if principal is None:
        return None
    with database.begin(PLATFORM) as session:
        found = person(session, principal.person_id)
    return Visitor(principal, found.name if found else "", state["csrf"])


def page(
    request: Request[Any, Any, Any],
    template: str,
    *,
    status: int = 200,
    notice: Notice | None = None,
    **context: object,
) -> Template:
    """A page in the frame, for whoever looks at it."""
    visitor = visitor_of(request)
    here = request.url.path
    menu = []
    if visitor is not None:
        items = MENUS[visitor.principal.part]
        best = max(
            (h for h, _ in items if here == h or here.startswith(h + "/")), key=len, default=""
        )
        menu = [{"href": href, "label": label, "is_here": href == best} for href, label in items]
    said = request.query_params.get("said")
    if notice is None and said:
        notice = SAID.get(said)
    return Template(
        template,
        context={"visitor": visitor, "menu": menu, "notice": notice, **context},
        status_code=status,
        headers=HEADERS,
    )


SAID = {
    "accepted": Notice("The offer is yours. Its terms are fixed as shown; start when you like."),
    "declined": Notice("You declined the offer. This has no effect on how you are seen."),
    "ended": Notice("The clock has stopped. Every counted minute stands below."),
    "submitted": Notice("Your work is in. Reviewers decide it; you will see their reasons."),
    "requested": Notice("The matching run was asked for; this page shows how far it is."),
    "settled": Notice("Done."),
}
"""What a page may say after a form: named in the address, so that nothing foreign is shown."""


def back_to(path: str, said: str) -> Redirect:
    """Send the browser to a page that says what its form did."""
    return Redirect(f"{path}?said={said}", status_code=303, headers=HEADERS)


def plain_headers(response: Response[Any]) -> Response[Any]:
    """Every answer of the console carries the same guards."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
