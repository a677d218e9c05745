"""An expert as a row of an upload."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from market.availability.rules import TimeOff, Window
from market.experts.rules import MAX_YEARS
from market.uploads import Shape


class DomainRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A domain in a row of an upload."""

    domain: str
    years: Annotated[float, Meta(ge=0, le=MAX_YEARS)] = 0


class DegreeRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The highest degree in a domain in a row of an upload."""

    domain: str
    degree: Literal["bachelor", "master", "doctorate"]
    institution: str | None = None


class ExpertRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An expert as a row of an upload; `tier` is where it starts, the first pay tier otherwise."""

    email: Annotated[str, Meta(min_length=3, max_length=320)]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    external_id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    headline: str = ""
    bio: str = ""
    country: str | None = None
    timezone: str = "UTC"
    languages: tuple[str, ...] = ()
    weekly_hours: int = 20
    max_concurrent: int = 3
    domains: tuple[DomainRow, ...] = ()
    degrees: tuple[DegreeRow, ...] = ()
    licences: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    time_off: tuple[TimeOff, ...] = ()
    tier: Literal["T1", "T2", "T3", "T4"] | None = None


EXPERT_ROWS = Shape(
    ExpertRow,
    "email",
    nested=("languages", "domains", "degrees", "licences", "windows", "time_off"),
)
