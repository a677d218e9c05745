"""Refusals of where an expert is paid; what a country is."""

import re
from collections.abc import Collection
from uuid import UUID

from market.errors import MarketError

COUNTRY = re.compile(r"[A-Z]{2}")


class CountryInvalid(MarketError):
    """A text that is no country."""

    def __init__(self, country: str) -> None:
        super().__init__("country is two capital letters, such as US (ISO 3166-1)")
        self.country = country[:8]


class CountryOutOfReach(MarketError):
    """A country that Stripe does not let us pay into."""

    def __init__(self, country: str, reached: Collection[str]) -> None:
        super().__init__(
            f"nobody can be paid in {country} yet: Stripe asks for its recipient service agreement"
            " there, which accounts of ours cannot be opened under; name a country where a bank"
            f" account is yours, one of {', '.join(sorted(reached))}; what you earn until then is"
            " kept for you"
        )
        self.country = country
        self.reached = tuple(sorted(reached))


class NotAPayee(MarketError):
    """This expert has not said yet where to be paid."""

    def __init__(self, expert_id: UUID) -> None:
        super().__init__("say first where you are paid: POST /v1/payees/me")
        self.expert_id = expert_id


class OnboardingNotReady(MarketError):
    """Stripe's page for an expert cannot be shown now."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


def is_country(text: str) -> bool:
    """Whether a text has the form of a country's code."""
    return COUNTRY.fullmatch(text) is not None
