"""Panels of target models: which of them a claim must defeat, and what is refused; pure."""

from collections.abc import Collection
from typing import Literal, get_args
from uuid import UUID

from market.errors import MarketError

StumpRule = Literal["target", "any", "all"]
STUMP_RULES: tuple[StumpRule, ...] = get_args(StumpRule)
"""What a stump must defeat: the target model; any model of the panel, the target among them; all.
"""

MAX_PANEL = 8
"""Models that a project may ask beside its target model."""


class PanelUnfit(MarketError):
    """A panel that a project cannot have."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must {wanted}")
        self.field = field


class PanelUnanswered(MarketError):
    """A claim while models of the panel that it is about have not answered."""

    def __init__(self, waiting: int, failed: int) -> None:
        super().__init__(
            f"{waiting} more of the panel's models are still answering; wait for them"
            if waiting
            else f"{failed} of the panel's models gave no answer, and a stump here defeats all of"
            " them: ask again, or concede"
        )
        self.waiting = waiting
        self.failed = failed


def check_panel(target: UUID | None, models: Collection[UUID]) -> None:
    """Refuse a panel that is too large, or that names a model twice or the target itself.

    Raises:
        PanelUnfit.
    """
    if len(models) > MAX_PANEL:
        raise PanelUnfit("model_ids", f"name at most {MAX_PANEL} models")
    if len(set(models)) != len(models):
        raise PanelUnfit("model_ids", "name each model once")
    if target is not None and target in models:
        raise PanelUnfit("model_ids", "leave out the target model, which is always asked")


def is_met(rule: str, target_failed: bool, others_failed: Collection[bool]) -> bool:
    """Whether the models that failed are those that a stump must defeat."""
    if rule == "any":
        return target_failed or any(others_failed)
    if rule == "all":
        return target_failed and all(others_failed)
    return target_failed
