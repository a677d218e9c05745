"""Heartbeats, over HTTP."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from market.auth import Principal
from market.db import database, now
from market.heartbeats.actions import beat
from market.http import Wire, post, read_id
from market.work.routes import FiguresOut


class HeartbeatIn(Wire):
    """A proof that someone is there: the next number, and whether anything was done since."""

    seq: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    is_active: bool
    sent_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class PulseOut(FiguresOut):
    """What a heartbeat found; one that changed nothing was not counted."""

    state: str
    is_counted: bool


@post(
    "/sessions/{session_id:str}/heartbeats",
    scope="work:write",
    status_code=HTTP_200_OK,
    tags=["Work"],
)
def post_heartbeat(
    session_id: FromPath[str], data: JSONBody[HeartbeatIn], principal: NamedDependency[Principal]
) -> PulseOut:
    """Prove that you are there, every 30 seconds."""
    with database.begin() as session:
        pulse = beat(
            session,
            read_id("ses", session_id),
            expert_id=principal.person_id,
            seq=data.seq,
            is_active=data.is_active,
            sent_at=data.sent_at,
            at=now(),
        )
    shown = pulse.figures
    return PulseOut(
        state=pulse.state,
        is_counted=pulse.is_counted,
        paid_s=shown.paid_s,
        capped_s=shown.capped_s,
        cap_left_s=shown.cap_left_s,
        left_s=shown.left_s,
        is_overtime=shown.is_overtime,
        is_near_cap=shown.is_near_cap,
        is_prompted=shown.is_prompted,
        quiet_from=shown.quiet_from,
    )


ROUTES: list[HTTPRouteHandler] = [post_heartbeat]
