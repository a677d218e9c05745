"""What forms carry: fields read in words, money and counts, and forms that act once."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Annotated, Protocol

import msgspec
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import Redirect, Template

from market.console.frame import HEADERS, Notice
from market.console.visitors import FormUnreadable
from market.console.words import capital
from market.errors import MarketError
from market.http import request_context
from market.once import run_once
from market.problems import code_of
from payouts.errors import PayoutsError
from payouts.money import exponent_of

Form = Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]

REFUSALS = (MarketError, PayoutsError)
"""What a form may be refused by: said in words above it, with everything that was typed."""

HIDDEN = ("csrf", "once")
LARGEST_MINOR = 2**53 - 1


def said_no(refusal: Exception) -> tuple[int, Notice]:
    """The status and the line above a form that was refused."""
    status = 422 if isinstance(refusal, FormUnreadable) else (code_of(refusal) or (422, ""))[0]
    return status, Notice(f"{capital(str(refusal))}.", "bad")


def field(data: Mapping[str, str], name: str) -> str:
    """A field as it was typed, without blanks around it; browsers end lines as in a letter."""
    return data.get(name, "").replace("\r\n", "\n").strip()


def whole_number(
    data: Mapping[str, str], name: str, label: str, *, least: int, most: int, absent: int
) -> int:
    """A whole number in a field.

    Raises:
        FormUnreadable.
    """
    text = field(data, name)
    if not text:
        return absent
    is_number = text.isascii() and text.isdecimal() and len(text) <= 15
    if not is_number or not least <= int(text) <= most:
        raise FormUnreadable(f"{label} is a whole number from {least:,} to {most:,}")
    return int(text)


def minor(data: Mapping[str, str], name: str, label: str, currency: str) -> int | None:
    """An amount of money as people write it, in minor units; None where the field is empty.

    Raises:
        FormUnreadable, UnknownCurrency.
    """
    text = field(data, name).replace(",", "").replace("\u00a0", "")
    if not text:
        return None
    decimals = exponent_of(currency)
    try:
        amount = Decimal(text) if text.isascii() else Decimal("nan")
    except InvalidOperation:
        amount = Decimal("nan")
    exact = amount.scaleb(decimals) if amount.is_finite() else None
    if exact is None or exact != exact.to_integral_value() or not 0 < exact <= LARGEST_MINOR:
        example = f"{Decimal(1500):.{decimals}f}"
        raise FormUnreadable(f"{label} is an amount above nothing in {currency}, such as {example}")
    return int(exact)


def lines(data: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The words of a field in which they stand on lines of their own or between commas."""
    return tuple(
        one.strip() for one in field(data, name).replace(",", "\n").split("\n") if one.strip()
    )


def go(path: str) -> Redirect:
    """Send the browser on, so that going back does not send its form again."""
    return Redirect(path, status_code=303, headers=HEADERS)


def once(data: Mapping[str, str], act: Callable[[], str], *, digest: bytes = b"") -> Redirect:
    """Do what a form asks for once, however often it is sent; `act` says which page shows it.

    A form is the same if it came from the same page with the same content: who goes back and
    changes a field asks for something new.

    Raises:
        IdempotencyInFlight.
    """
    typed = sorted((name, value) for name, value in data.items() if name not in HIDDEN)
    body = hashlib.sha256(msgspec.json.encode(typed) + digest).digest()
    key = f"{data.get('once', '')[:64]}.{body.hex()[:32]}"
    if not key.isascii() or not key.isprintable() or " " in key:
        raise FormUnreadable("this form is out of date: open the page again")
    context = replace(request_context.get(), idempotency_key=key, body_digest=body)
    return go(msgspec.json.decode(run_once(context, act, 303).content, type=str))


class PageAgain(Protocol):
    """A page shown once more, with a line above its form on why that was refused."""

    def __call__(self, *, status: int, notice: Notice) -> Template: ...


def tried(
    data: Mapping[str, str], act: Callable[[], str], again: PageAgain, *, digest: bytes = b""
) -> Redirect | Template:
    """Do what a form asks for once, as `once`; where it is refused, its page again and why."""
    try:
        return once(data, act, digest=digest)
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return again(status=status, notice=notice)
