"""Sending: one attempt at one message, between two transactions."""

import random

from market.db import database, now
from market.deliveries.rules import (
    SLOW_S,
    SLOW_STATUSES,
    TIMEOUT_S,
    Outcome,
    outcome_of,
    read_retry_after,
    signed_headers,
)
from market.egress import AddressRefused, Unanswered, post_bytes
from market.letters.actions import Letter, Result, record_result
from market.settings import in_force

KEPT_REPLY = 1_000
"""How many characters of a receiver's reply are kept for its owner to read."""


def carry_letter(letter: Letter, *, timeout_s: float = TIMEOUT_S) -> None:
    """Send one message and write down how it went."""
    result = send_letter(letter, timeout_s=timeout_s)
    with database.begin() as session:
        record_result(
            session,
            letter.delivery_id,
            letter.number,
            result,
            spread=random.random(),  # noqa: S311
            at=now(),
        )


def send_letter(letter: Letter, *, timeout_s: float) -> Result:
    """Sign a message, send it and read what the receiver makes of it; redirects are failures."""
    at = now()
    try:
        reply = post_bytes(
            letter.url,
            letter.body,
            headers=signed_headers(letter.keys, letter.message_id, letter.body, at=at),
            timeout_s=timeout_s,
            allow_private=in_force.settings.allow_private_targets,
            max_bytes=4 * KEPT_REPLY,
            cut=True,
        )
    except AddressRefused as refused:
        return Result(Outcome.FAILED, error=str(refused)[:KEPT_REPLY])
    except Unanswered as lost:
        return Result(Outcome.FAILED, error=str(lost)[:KEPT_REPLY])
    text = reply.body.decode("utf-8", "replace").replace("\x00", "")
    return Result(
        outcome_of(reply.status),
        status=reply.status,
        reply=text[:KEPT_REPLY],
        ms=int(reply.seconds * 1000),
        retry_after=read_retry_after(reply.headers, at=now()),
        asks_for_less=reply.status in SLOW_STATUSES,
        is_slow=reply.seconds > SLOW_S,
    )
