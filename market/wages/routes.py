"""What work came to an hour, over HTTP."""

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from market.auth import Principal
from market.db import PLATFORM, database
from market.http import Wire, get, read_id, wire_id
from market.projects.queries import project
from market.wages.queries import effective_wage, own_wages


class WageOut(Wire):
    """What work on a project came to an hour: all pay over every recorded minute, also of work
    that was rejected, redone or beyond a cap. All but the project is null where fewer than three
    experts have worked, since it would tell of one of them.
    """

    project_id: str
    minor_per_hour: int | None
    pay_minor: int | None
    seconds: int | None
    experts: int | None
    currency: str | None


@get("/projects/{project_id:str}/effective-wage", scope="earning:read", tags=["Earnings"])
def get_effective_wage(project_id: FromPath[str]) -> WageOut:
    """What experts earned an hour on a project, over all their minutes; for every expert to see."""
    # As the platform, since it is about everybody's time and pay, and shows nobody's.
    with database.begin(PLATFORM) as session:
        found = project(session, read_id("prj", project_id))
        wage = effective_wage(session, found.id)
    return WageOut(
        project_id=wire_id("prj", found.id),
        minor_per_hour=wage.minor_per_hour if wage else None,
        pay_minor=wage.pay_minor if wage else None,
        seconds=wage.seconds if wage else None,
        experts=wage.experts if wage else None,
        currency=wage.currency if wage else None,
    )


class OwnWageOut(Wire):
    """What you earned in one currency over every minute that was recorded: `work_s` of work, also
    of what was rejected, redone, given back or beyond a cap; `test_s` of tests and baselines, paid
    or not. `minor_per_hour` is null where no time was recorded.
    """

    currency: str
    minor_per_hour: int | None
    pay_minor: int
    work_s: int
    test_s: int


@get("/experts/me/wage", scope="earning:read", tags=["Earnings"])
def get_own_wage(principal: NamedDependency[Principal]) -> list[OwnWageOut]:
    """What you earned an hour, by currency, over all your minutes."""
    with database.begin(PLATFORM) as session:
        found = own_wages(session, principal.person_id)
    return [
        OwnWageOut(
            currency=one.currency,
            minor_per_hour=one.minor_per_hour,
            pay_minor=one.pay_minor,
            work_s=one.work_s,
            test_s=one.test_s,
        )
        for one in found
    ]


ROUTES: list[HTTPRouteHandler] = [get_effective_wage, get_own_wage]
