"""Asks target models, between two transactions: one that reserves, one that keeps each answer."""

import time
from typing import Annotated
from uuid import UUID

import msgspec
from cryptography.fernet import InvalidToken

from market.attempts.actions import Answer, Order, fail_attempt, record_answer, take_order
from market.attempts.rules import MAX_WAIT_S, TRIES, WAITS_S, AnswerFailed
from market.auth import keyring
from market.broker import job
from market.db import database, now
from market.egress import AddressRefused, Reply, Unanswered, post_bytes
from market.settings import in_force

Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class ChatMessage(msgspec.Struct):
    """What was said."""

    content: str
    role: str = "assistant"


class ChatChoice(msgspec.Struct):
    """One answer of a reply."""

    message: ChatMessage
    finish_reason: str | None = None


class ChatUsage(msgspec.Struct):
    """What an answer used."""

    prompt_tokens: Count
    completion_tokens: Count


class ChatReply(msgspec.Struct):
    """The part of a reply that every server of this kind of API sends."""

    choices: Annotated[list[ChatChoice], msgspec.Meta(min_length=1)]
    model: str | None = None
    usage: ChatUsage | None = None


@job(queue="default", line="slow", max_retries=8, time_limit_s=7200)
def ask_model(attempt_id: str) -> None:
    """Ask for every sample that an attempt still lacks; a failure ends the attempt, not the job."""
    which = UUID(attempt_id)
    with database.begin() as session:
        order = take_order(session, which, at=now())
    if order is None:
        return
    for k in order.missing:
        try:
            answer = ask(order, k, allow_private=in_force.settings.allow_private_targets)
        except AnswerFailed as failed:
            with database.begin() as session:
                fail_attempt(session, which, code=failed.code, reason=failed.reason, at=now())
            return
        with database.begin() as session:
            record_answer(session, which, k, answer, at=now())


def ask(order: Order, k: int, *, allow_private: bool) -> Answer:
    """One sample, with a few tries when the model is busy, broken or slow.

    Raises:
        AnswerFailed.
    """
    body = request_body(order, k)
    headers = {"Content-Type": "application/json"}
    if order.sealed_key is not None:
        try:
            headers["Authorization"] = f"Bearer {keyring.unseal(order.sealed_key).decode()}"
        except (InvalidToken, UnicodeDecodeError):
            raise AnswerFailed("key_unreadable", "the model's key cannot be read") from None
    failure = AnswerFailed("model_unreachable", "the model was not asked")
    for turn in range(TRIES):
        try:
            reply = post_bytes(
                f"{order.base_url.rstrip('/')}/chat/completions",
                body,
                headers=headers,
                timeout_s=order.timeout_s,
                allow_private=allow_private,
            )
        except AddressRefused as refused:
            raise AnswerFailed("address_refused", str(refused)) from None
        except Unanswered as lost:
            code = "model_timeout" if lost.is_timeout else "model_unreachable"
            failure = AnswerFailed(code, str(lost))
            wait = None
        else:
            if reply.status != 429 and reply.status < 500:
                return read_answer(reply, body)
            failure = AnswerFailed("model_error", f"the model answered {reply.status}")
            wait = reply.headers.get("retry-after")
        if turn < len(WAITS_S):
            time.sleep(_wait_s(turn, wait))
    raise failure


def request_body(order: Order, k: int) -> bytes:
    """The bytes of one request; the same sample of the same attempt always gives the same ones."""
    parameters = order.parameters
    return msgspec.json.encode(
        {
            "model": parameters["model"],
            "messages": [{"role": "user", "content": order.prompt}],
            "max_tokens": parameters["max_tokens"],
            "seed": parameters["seed"] + k,
            "stream": False,
        }
    )


def read_answer(reply: Reply, request: bytes) -> Answer:
    """What a reply says.

    Raises:
        AnswerFailed: it refuses, redirects, or is not what a model of this kind answers.
    """
    if 300 <= reply.status < 400:
        raise AnswerFailed("model_redirects", "the model's address redirects; it is not followed")
    if reply.status != 200:
        raise AnswerFailed("model_refuses", f"the model answered {reply.status}")
    try:
        read = msgspec.json.decode(reply.body, type=ChatReply)
    except (msgspec.DecodeError, UnicodeDecodeError) as unreadable:
        raise AnswerFailed("model_nonsense", f"not a model's answer: {unreadable}") from None
    output = storable(read.choices[0].message.content)
    if not output.strip():
        raise AnswerFailed("model_nonsense", "the model answered without a text")
    return Answer(
        output=output,
        status=reply.status,
        latency_ms=round(reply.seconds * 1000),
        request=request,
        raw=reply.body,
        tokens_in=read.usage.prompt_tokens if read.usage else None,
        tokens_out=read.usage.completion_tokens if read.usage else None,
        finish_reason=storable(read.choices[0].finish_reason or "") or None,
        model_version=storable(read.model or "")[:200] or None,
    )


def storable(text: str) -> str:
    """A text as a database can hold it; the bytes that it came from are kept as they are."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return whole.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _wait_s(turn: int, asked: str | None) -> float:
    if asked is not None and asked.strip().isdecimal():
        return min(MAX_WAIT_S, max(WAITS_S[turn], float(asked)))
    return WAITS_S[turn]
