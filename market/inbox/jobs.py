"""Sending letters by SMTP, between two transactions."""

import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import EmailMessage

from market.db import PLATFORM, database, now
from market.inbox.actions import gather_digests, record_letter, reserve_letters, take_notices
from market.inbox.models import Letter
from market.settings import Settings

BATCH = 20
TIMEOUT_S = 20.0


def tell_people(settings: Settings) -> int:
    """Notify, gather digests and send letters, as far as something waits; how much that was."""
    has_mail = bool(settings.smtp_host)
    with database.begin(PLATFORM) as session:
        moved = take_notices(session, has_mail=has_mail, at=now())
    if not has_mail:
        return moved
    with database.begin(PLATFORM) as session:
        moved += gather_digests(session, at=now())
    with database.begin(PLATFORM) as session:
        letters = reserve_letters(session, limit=BATCH, at=now())
    if letters:
        send_letters(letters, settings)
    return moved + len(letters)


def send_letters(letters: Sequence[Letter], settings: Settings) -> None:
    """Send some letters over one connection, each written down as soon as it has left.

    A letter whose `Message-ID` a mail server has seen is the same letter: should this process die
    between the server's yes and its own note, the repeat can be told by it.
    """
    waiting = list(letters)
    try:
        with _connection(settings) as server:
            while waiting:
                _send(server, waiting.pop(0), settings)
    except (OSError, smtplib.SMTPException) as lost:
        for letter in waiting:
            _record(letter, f"{type(lost).__name__}: {lost}", is_final=False)


def _send(server: smtplib.SMTP, letter: Letter, settings: Settings) -> None:
    try:
        server.send_message(message_of(letter, settings))
    except smtplib.SMTPRecipientsRefused as refused:
        code, said = next(iter(refused.recipients.values()))
        _record(letter, f"{code} {said!r}", is_final=500 <= code < 600)
    except smtplib.SMTPResponseException as refused:
        _record(letter, f"{refused.smtp_code} {refused.smtp_error!r}", is_final=False)
    except (OSError, smtplib.SMTPException) as lost:
        _record(letter, f"{type(lost).__name__}: {lost}", is_final=False)
        raise
    else:
        _record(letter, None, is_final=True)


def _record(letter: Letter, error: str | None, *, is_final: bool) -> None:
    with database.begin(PLATFORM) as session:
        record_letter(session, letter.id, error=error and error[:500], is_final=is_final, at=now())


def message_of(letter: Letter, settings: Settings) -> EmailMessage:
    """A letter as it travels; the same letter is the same message on every attempt."""
    message = EmailMessage()
    message["From"] = settings.mail_from
    message["To"] = letter.address
    message["Subject"] = letter.subject
    message["Date"] = letter.created_at
    message["Message-ID"] = f"<{letter.id.hex}@{settings.mail_from.rpartition('@')[2]}>"
    message.set_content(f"{letter.content}\n\n{settings.public_url}/console\n")
    return message


@contextmanager
def _connection(settings: Settings) -> Iterator[smtplib.SMTP]:
    context = ssl.create_default_context(cafile=settings.smtp_ca_file or None)
    if settings.smtp_security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            settings.smtp_host, settings.smtp_port, timeout=TIMEOUT_S, context=context
        )
    else:
        server = smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT_S)
    with server:
        if settings.smtp_security == "starttls":
            server.starttls(context=context)
        if settings.smtp_user:
            server.login(settings.smtp_user, settings.smtp_password)
        yield server
