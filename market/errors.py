"""The one root of every refusal that this package makes."""


class MarketError(Exception):
    """A refusal: something that a caller asked for and may not have, with the facts as attributes.

    A subclass states the fact in its name, and its message says what the caller can change.
    `problems.py` gives each one its HTTP status; nothing here knows of HTTP.
    """
