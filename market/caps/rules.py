"""What a lab is told of a cap that its work reaches; pure."""

from dataclasses import dataclass

from market.verdicts.rules import FEWEST_DECIDED, Share

STEP_S = 900
"""A cap that is proposed is whole quarters of an hour."""

SHORT_FROM = 0.1
"""A cap is called short when more of the work than this reaches it, for certain."""


@dataclass(frozen=True, slots=True)
class CapUse:
    """How the work of a project lies to its cap.

    Units: seconds; `long_s` is what nine of ten works stayed below, time beyond the cap included.
    """

    cap_s: int
    reached: Share
    experts: int
    experts_reached: int
    long_s: int | None

    @property
    def is_short(self) -> bool:
        """Whether it is certain enough that the cap is too short for the work, whoever does it."""
        return self.reached.whole >= FEWEST_DECIDED and self.reached.low > SHORT_FROM

    @property
    def proposed_s(self) -> int | None:
        """A cap that nine of ten works would fit in; None where this one does."""
        if not self.is_short or self.long_s is None:
            return None
        fits = -(-self.long_s // STEP_S) * STEP_S
        return fits if fits > self.cap_s else None


def cap_told(use: CapUse) -> str:
    """How often the cap is reached and what follows from it, in a sentence."""
    part, whole = use.reached.part, use.reached.whole
    if whole < FEWEST_DECIDED:
        return f"How often work reaches the cap is told from {FEWEST_DECIDED} finished works on"
    said = (
        f"{part:,} of {whole:,} works reached the cap of {use.cap_s / 60:.0f} minutes, by"
        f" {use.experts_reached:,} of {use.experts:,} experts"
    )
    if use.proposed_s is None:
        return said
    return (
        f"{said}: the cap is short for this work, which says nothing against who reached it; nine"
        f" of ten works would fit in {use.proposed_s / 60:.0f} minutes"
    )
