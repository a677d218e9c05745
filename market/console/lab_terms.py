"""The terms of a project as a form holds them, and what its tasks would cost under them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.console.forms import field, lines, minor, whole_number
from market.console.visitors import FormUnreadable
from market.projects.actions import Terms
from market.projects.models import Project
from market.projects.rules import UNEDITED
from market.tasks.models import Task
from payouts.money import Money
from payouts.pay import fee_minor, pay_minor


@dataclass(frozen=True, slots=True)
class Costs:
    """What a project's tasks cost if each takes as long as its lab expects.

    Units: seconds; minor units of `currency`.
    """

    answers: int
    seconds: int
    pay_minor: int
    fee_minor: int
    currency: str

    @property
    def total_minor(self) -> int:
        """Pay, and the fee on top of it."""
        return self.pay_minor + self.fee_minor


def typed_terms(found: Project) -> dict[str, str]:
    """What a project's form holds before anybody types: its terms as they are."""
    rate = found.rate_minor_per_hour
    return {
        "name": found.name,
        "brief": found.brief,
        "domains": "\n".join(found.domains),
        "currency": found.currency,
        "rate": _amount(rate, found.currency),
        "cap_minutes": str(found.cap_s // 60),
        "answers": str(found.answers_per_task),
        "reviews": str(found.reviews_per_submission),
        "level": found.minimum_level,
        "trial_raise": str(found.trial_raise_basis_points // 100),
        "unedited_drafts": found.unedited_drafts,
        "draft_field": found.draft_field or "",
        "passes_drafts": "yes" if found.passes_drafts else "no",
        "pay_basis": found.pay_basis,
        "deliverable": _amount(found.deliverable_minor, found.currency),
        "attempt_fee": _amount(found.attempt_fee_minor, found.currency),
        "attempt_fees_max": str(found.attempt_fees_max),
        "impact_bonus": _amount(found.impact_bonus_minor, found.currency),
        "weekly_cap_hours": _hours(found.weekly_cap_s),
        "overtime_hours": _hours(found.overtime_after_s),
        "overtime_per_cent": str((found.overtime_basis_points or 0) // 100 or ""),
    }


def _amount(minor_units: int | None, currency: str) -> str:
    return "" if minor_units is None else str(Money(minor_units, currency)).split(" ", 1)[1]


def _hours(seconds: int | None) -> str:
    return "" if seconds is None else str(seconds // 3600)


def _contract(data: Mapping[str, str], before: Terms, currency: str) -> Terms:
    """The terms before, with what the form says of the contract."""
    if "pay_basis" not in data:
        return before

    def whole(name: str, label: str, unit: int, most: int, kept: int | None) -> int | None:
        # The form knows whole hours and per cents; what is finer stays while it is not changed.
        shown = (kept or 0) // unit
        found = whole_number(data, name, label, least=0, most=most, absent=0)
        return kept if found == shown else unit * found or None

    return replace(
        before,
        pay_basis=field(data, "pay_basis"),
        deliverable_minor=minor(data, "deliverable", "the sum for accepted work", currency),
        attempt_fee_minor=minor(data, "attempt_fee", "the fee of an attempt", currency),
        attempt_fees_max=whole_number(
            data, "attempt_fees_max", "paid attempts", least=0, most=200, absent=0
        ),
        impact_bonus_minor=minor(data, "impact_bonus", "the bonus for a stump", currency),
        weekly_cap_s=whole("weekly_cap_hours", "hours a week", 3600, 168, before.weekly_cap_s),
        overtime_after_s=whole(
            "overtime_hours", "hours before overtime", 3600, 168, before.overtime_after_s
        ),
        overtime_basis_points=whole(
            "overtime_per_cent", "what overtime pays", 100, 300, before.overtime_basis_points
        ),
    )


def read_terms(data: Mapping[str, str], before: Terms) -> Terms:
    """The terms before, with all that a form says instead.

    Raises:
        FormUnreadable.
    """
    currency = field(data, "currency").upper() or "USD"
    cap = whole_number(data, "cap_minutes", "the cap in minutes", least=1, most=43_200, absent=240)
    level = data.get("level", before.minimum_level)
    if level not in ("claimed", "qualified"):
        raise FormUnreadable("the level is claimed or qualified")
    unedited = data.get("unedited_drafts", before.unedited_drafts)
    if unedited not in UNEDITED:
        raise FormUnreadable("unedited drafts are allowed, flagged or refused")
    allowed = before.trial_raise_basis_points
    per_cent = whole_number(
        data, "trial_raise", "the raise in per cent", least=0, most=100, absent=allowed // 100
    )
    return replace(
        _contract(data, before, currency),
        name=field(data, "name"),
        brief=field(data, "brief"),
        domains=lines(data, "domains"),
        rate_minor_per_hour=minor(data, "rate", "the rate", currency),
        cap_s=60 * cap,
        answers_per_task=whole_number(
            data, "answers", "answers to each task", least=1, most=100, absent=1
        ),
        reviews_per_submission=whole_number(
            data, "reviews", "reviews of each submission", least=1, most=15, absent=3
        ),
        minimum_level=level,
        unedited_drafts=unedited,
        draft_field=data.get("draft_field", before.draft_field or "").strip() or None,
        passes_drafts=data.get("passes_drafts", "yes" if before.passes_drafts else "no") == "yes",
        # The form knows whole per cents; a finer one stays while it is not changed.
        trial_raise_basis_points=allowed if per_cent == allowed // 100 else 100 * per_cent,
    )


def terms_of(found: Project) -> Terms:
    """The terms that a project has now."""
    names = [name for name in Terms.__dataclass_fields__ if name != "domains"]
    return Terms(**{name: getattr(found, name) for name in names}, domains=tuple(found.domains))


def costs_of(session: Session, found: Project) -> Costs | None:
    """What all tasks of a project would cost; none where each expert has a rate of its own."""
    if found.rate_minor_per_hour is None:
        return None
    tasks, seconds = session.execute(
        select(
            func.count(), func.coalesce(func.sum(func.least(Task.expected_s, found.cap_s)), 0)
        ).where(Task.project_id == found.id, Task.state.in_(("draft", "queued", "active")))
    ).one()
    if not tasks:
        return None
    worked = int(seconds) * found.answers_per_task
    pay = pay_minor(worked, found.rate_minor_per_hour)
    return Costs(
        answers=int(tasks) * found.answers_per_task,
        seconds=worked,
        pay_minor=pay,
        fee_minor=fee_minor(pay, found.fee_basis_points),
        currency=found.currency,
    )
