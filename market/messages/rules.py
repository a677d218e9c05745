"""What a message to a cohort may be, and what is refused; pure."""

from market.errors import MarketError

TOPIC = "messages"
"""What people choose by whether such a message is mailed to them."""

MAX_SUBJECT = 200
MAX_CONTENT = 20_000


class MessageNotFound(MarketError):
    """No message that the caller may see has this id."""

    def __init__(self) -> None:
        super().__init__("there is no such message")


class MessageUnfit(MarketError):
    """A subject or a text that is empty or too long."""

    def __init__(self, field: str, most: int) -> None:
        super().__init__(f"{field} has 1 to {most} characters")
        self.field = field


class NobodyToTell(MarketError):
    """A message that nobody would get."""

    def __init__(self) -> None:
        super().__init__(
            "nobody fits this expression; /v1/expressions:explain says which part of it"
        )


def checked_words(field: str, text: str, most: int) -> str:
    """A text without blanks around it.

    Raises:
        MessageUnfit.
    """
    plain = text.strip()
    if not 1 <= len(plain) <= most:
        raise MessageUnfit(field, most)
    return plain
