"""How a visitor is told of what happens: by e-mail at once, in a digest, or in the inbox alone."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect, Template

from market.console.forms import REFUSALS, Form, field, said_no, whole_number
from market.console.frame import Notice, back_to, page
from market.console.live import EVERYBODY
from market.console.visitors import FormUnreadable, my_id
from market.db import PLATFORM, database, now
from market.inbox.actions import change_preference, preference_of
from market.inbox.rules import TOPICS, Digest, Mail


def _preferences(
    request: Request[Any, Any, Any],
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    with database.begin(PLATFORM) as session:
        found = preference_of(session, my_id(request), at=now())
        return page(
            request,
            "preferences.html",
            status=status,
            notice=notice,
            preference=found,
            topics=TOPICS,
            typed={
                "timezone": found.timezone,
                "digest": found.digest,
                "hour": str(found.hour),
                **{f"mail-{topic}": mail for topic, mail in found.mails.items()},
                **(typed or {}),
            },
        )


@get("/inbox/preferences", guards=EVERYBODY, sync_to_thread=True)
def get_preferences(request: Request[Any, Any, Any]) -> Template:
    """How the visitor is told of each topic."""
    return _preferences(request)


@post("/inbox/preferences", guards=EVERYBODY, sync_to_thread=True, status_code=303)
def post_preferences(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Be told otherwise from now on; a topic left as it suits goes as it suits."""
    wanted = {topic: field(data, f"mail-{topic}") for topic in TOPICS}
    try:
        digest = field(data, "digest")
        if digest not in tuple(Digest) or not {*wanted.values()} <= {"", *Mail}:
            raise FormUnreadable("choose out of the ways that are listed")
        with database.begin(PLATFORM) as session:
            found = preference_of(session, my_id(request), at=now())
            session.refresh(found, with_for_update=True)
            change_preference(
                session,
                found,
                timezone=field(data, "timezone"),
                digest=Digest(digest),
                hour=whole_number(data, "hour", "the hour", least=0, most=23, absent=found.hour),
                mails={topic: Mail(mail) for topic, mail in wanted.items() if mail},
                at=now(),
            )
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _preferences(request, status=status, notice=notice, typed=data)
    return back_to("/console/inbox/preferences", "saved")


ROUTES: list[HTTPRouteHandler] = [get_preferences, post_preferences]
