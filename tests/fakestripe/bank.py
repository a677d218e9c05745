"""The stand-in's own bank: it shares no code with the product, so it can judge the product."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypedDict

Leg = tuple[str, str, int]
"""A place, a currency and a signed amount in minor units that arrives there."""

OPEN_ENDED = ("world/", "stripe/")
"""Places outside Stripe's books: labs' banks and Stripe's revenue may go to either side of zero."""


class BankEntry(TypedDict):
    """One movement: its legs add up to zero in each currency."""

    id: str
    at: float
    kind: str
    source: str
    legs: list[list[Any]]


class InsufficientFunds(Exception):
    """A place does not hold what was asked of it."""

    def __init__(self, place: str, currency: str, held: int, wanted: int) -> None:
        super().__init__(f"{place} holds {held} {currency}, asked for {wanted}")
        self.place = place
        self.currency = currency
        self.held = held
        self.wanted = wanted


class Unbalanced(Exception):
    """A movement that would make or lose money: a bug of the stand-in."""


class Bank:
    """Balances of the platform, of each connected account, and of the world outside.

    Places: ``platform/available``, ``platform/pending``, ``acct_x/available``, ``acct_x/pending``,
    ``acct_x/in_transit``, ``acct_x/bank``, ``world/payers``, ``stripe/fees``.
    """

    def __init__(self) -> None:
        self.entries: list[BankEntry] = []
        self.held: defaultdict[tuple[str, str], int] = defaultdict(int)

    def balance(self, place: str, currency: str) -> int:
        """What lies in one place, in minor units."""
        return self.held.get((place, currency), 0)

    def move(
        self, *, kind: str, source: str, at: float, legs: Iterable[Leg], may_overdraw: bool = False
    ) -> None:
        """Book one movement, or none of it.

        Raises:
            InsufficientFunds: a place of ours would go below zero.
            Unbalanced: the legs do not add up to zero.
        """
        legs = [leg for leg in legs if leg[2] != 0]
        sums: defaultdict[str, int] = defaultdict(int)
        change: defaultdict[tuple[str, str], int] = defaultdict(int)
        for place, currency, amount in legs:
            sums[currency] += amount
            change[place, currency] += amount
        if any(sums.values()):
            raise Unbalanced(f"{kind} {source}: {dict(sums)}")
        for (place, currency), amount in change.items():
            after = self.held[place, currency] + amount
            if amount < 0 and after < 0 and not may_overdraw and not place.startswith(OPEN_ENDED):
                raise InsufficientFunds(place, currency, self.held[place, currency], -amount)
        for key, amount in change.items():
            self.held[key] += amount
        self.entries.append(
            {
                "id": f"move_{len(self.entries) + 1}",
                "at": at,
                "kind": kind,
                "source": source,
                "legs": [list(leg) for leg in legs],
            }
        )

    def problems(self) -> list[str]:
        """Each sentence is a breach of the conservation law; none is the healthy answer."""
        found: list[str] = []
        again: defaultdict[tuple[str, str], int] = defaultdict(int)
        totals: defaultdict[str, int] = defaultdict(int)
        for entry in self.entries:
            per_currency: defaultdict[str, int] = defaultdict(int)
            for place, currency, amount in entry["legs"]:
                again[place, currency] += amount
                per_currency[currency] += amount
                totals[currency] += amount
            found += [
                f"{entry['id']} ({entry['kind']}) is off by {off} {currency}"
                for currency, off in per_currency.items()
                if off
            ]
        for key in set(again) | set(self.held):
            if again[key] != self.held[key]:
                found.append(f"{key[0]} holds {self.held[key]} but its movements say {again[key]}")
        found += [f"{off} {currency} came from nowhere" for currency, off in totals.items() if off]
        return found

    def by_place(self) -> dict[str, dict[str, int]]:
        """Every balance that is not zero, by place and then by currency."""
        answer: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (place, currency), amount in sorted(self.held.items()):
            if amount:
                answer[place][currency] = amount
        return dict(answer)

    def dump(self) -> list[BankEntry]:
        """The movements, from which everything else follows."""
        return self.entries

    def load(self, entries: list[BankEntry]) -> None:
        """Take over the movements of an earlier process."""
        self.entries = entries
        self.held.clear()
        for entry in entries:
            for place, currency, amount in entry["legs"]:
                self.held[place, currency] += amount
