"""What is refused about the books."""

from market.errors import MarketError


class BooksBroken(MarketError):
    """Something is in the books that must not be."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(f"{len(found)} things in the books must not be: " + "; ".join(found[:20]))
        self.found = found
