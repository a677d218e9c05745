"""Re-grades over HTTP: how one's own sittings were graded again."""

from datetime import datetime

from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from market.db import database
from market.http import Wire, get, read_id, wire_id
from market.regrades.models import Regrade
from market.regrades.queries import regrades_of
from market.sittings.queries import sitting


class RegradeOut(Wire):
    """One time that a sitting was graded again: why, from what to what, and what followed."""

    at: datetime
    item_id: str
    reason: str
    score_before: int
    score_after: int
    result_before: str
    result_after: str
    effect: str


@get("/sittings/{sitting_id:str}/regrades", scope="qualification:read", tags=["Qualifications"])
def get_regrades(sitting_id: FromPath[str]) -> list[RegradeOut]:
    """How a sitting was graded again, the latest first: why, from what to what."""
    with database.begin() as session:
        row = sitting(session, read_id("sit", sitting_id))
        return [_regrade(one) for one in regrades_of(session, row.id)]


def _regrade(row: Regrade) -> RegradeOut:
    return RegradeOut(
        at=row.at,
        item_id=wire_id("itm", row.item_id),
        reason=row.reason,
        score_before=row.score_before,
        score_after=row.score_after,
        result_before=row.result_before,
        result_after=row.result_after,
        effect=row.effect,
    )


ROUTES: list[HTTPRouteHandler] = [get_regrades]
