"""What an item was worth, in parts, and in words; pure."""

from market.lifts.rules import MOST_LIFT

MOST = 2.0 * (1 + MOST_LIFT)
"""The most credit that one item can have: valid, new, of the highest complexity, and of the most
lift that counts."""


def level_weight(complexity: int) -> float:
    """What a level of complexity, 1 to 10, multiplies credit with: 1 to 2."""
    return 1 + (complexity - 1) / 9


def what_would_change(items: int, sd: float) -> str:
    """What would move an expert's impact, in a sentence."""
    return (
        f"It rests on {items} decided items and is known to about {sd:.2f}. A validated item that"
        " nobody made before raises it; one that resembles earlier work, or does not hold, lowers"
        " it; a higher complexity counts up to double, and what its lab measured of training on it"
        f" up to {100 * MOST_LIFT:.0f} % either way. A model's failing alone counts nothing."
    )
