"""What is told of what people earned an hour; pure."""

FEWEST_EXPERTS = 3
"""Of how many experts at least a project's wage is told, so that it tells of none."""


def an_hour(pay_minor: int, seconds: int) -> int:
    """Pay over some seconds, to the nearest unit, halves down. Units: minor units an hour."""
    return (2 * pay_minor * 3600 + seconds - 1) // (2 * seconds)
