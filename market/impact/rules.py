"""What an item was worth, in parts, and in words; pure."""

MOST = 2.0
"""The most credit that one item can have: valid, new, and of the highest complexity."""

RECENT = 2_000
"""Items of a domain, the latest, from which an expert's rate is followed between two nights."""


def level_weight(complexity: int) -> float:
    """What a level of complexity, 1 to 10, multiplies credit with: 1 to 2."""
    return 1 + (complexity - 1) / 9


def what_would_change(items: int, sd: float) -> str:
    """What would move an expert's impact, in a sentence."""
    return (
        f"It rests on {items} decided items and is known to about {sd:.2f}. A validated item that"
        " nobody made before raises it; one that resembles earlier work, or does not hold, lowers"
        " it; a higher complexity counts up to double. A model's failing alone counts nothing."
    )
