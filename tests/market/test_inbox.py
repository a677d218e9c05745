"""Notifications: everybody is told what concerns it, once, in the way it chose."""

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from aiosmtpd.smtp import Session as SmtpSession
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from litestar.testing import TestClient
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import PLATFORM, database, new_id, now
from market.embedded import free_port
from market.events import Event, emit
from market.feeds import publish
from market.inbox.actions import reserve_letters, take_notices
from market.inbox.jobs import tell_people
from market.inbox.models import Letter, NoticePreference
from market.inbox.queries import FEWEST_READ
from market.inbox.rules import NOTICES, Digest, next_digest, next_try
from market.settings import Settings
from tests.factories import (
    Caller,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.reviewed import ACCEPT, cast, hand_in
from tests.market.test_console import come_in

Web = TestClient[Any]


class MailServer:
    """A real mail server on loopback, with STARTTLS and a login, that can be told to refuse."""

    def __init__(self, folder: Path) -> None:
        self.got: list[Message] = []
        self.refuse_with = ""
        self.certificate = folder / "certificate.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (folder / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, folder / "key.pem")
        self.controller = Controller(
            self,
            hostname="127.0.0.1",
            port=free_port(),
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=self._admit,
        )

    def _admit(
        self, server: SMTP, session: SmtpSession, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        del server, session, envelope, mechanism
        good = data == LoginPassword(b"house", b"a password")
        return AuthResult(success=good, handled=False)

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: SmtpSession, envelope: Envelope
    ) -> str:
        """Take a letter, or refuse it as told."""
        del server, session
        if self.refuse_with:
            return self.refuse_with
        content = envelope.content
        assert isinstance(content, bytes)
        self.got.append(message_from_bytes(content))
        return "250 OK"


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[MailServer]:
    server = MailServer(tmp_path)
    server.controller.start()
    yield server
    server.controller.stop()


@pytest.fixture
def mailing(settings: Settings, mail: MailServer) -> Settings:
    return msgspec.structs.replace(
        settings,
        smtp_host="localhost",
        smtp_port=mail.controller.port,
        smtp_user="house",
        smtp_password="a password",
        smtp_ca_file=str(mail.certificate),
        mail_from="house@market.example",
    )


@pytest.fixture
def expert(web: Web, db: Session) -> Caller:
    return make_caller(db, web, Part.EXPERT)


def happen(event: Event, person: Caller, *, by: Caller | None = None) -> None:
    with database.begin(PLATFORM) as session:
        emit(
            session,
            event,
            new_id(),
            at=now(),
            person_id=person.person_id,
            actor_id=by.person_id if by else None,
        )
    with database.begin(PLATFORM) as session:
        publish(session, at=now())


def listed(person: Caller, query: str = "") -> list[dict[str, Any]]:
    answer = person.get(f"/v1/notifications{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def test_a_person_is_told_once_and_marks_what_it_read(
    web: Web, db: Session, expert: Caller, settings: Settings
) -> None:
    other = make_caller(db, web, Part.EXPERT)
    happen(Event.OFFER_CREATED, expert)
    happen(Event.SUBMISSION_REJECTED, expert)
    # What it did itself is no news.
    happen(Event.OFFER_TIMED_OUT, expert, by=expert)
    for _ in range(3):
        tell_people(settings)
    assert [one["type"] for one in listed(expert)] == ["submission.rejected", "offer.created"]
    assert listed(expert)[1]["resource"].startswith("ofr_")
    assert listed(other) == []
    first = listed(expert)[0]["id"]
    assert other.post("/v1/notifications/read", json={"ids": [first]}).json() == {"unread": 0}
    assert expert.get("/v1/notifications/unread").json() == {"unread": 2}
    assert expert.post("/v1/notifications/read", json={"ids": []}).json() == {"unread": 2}
    assert expert.post("/v1/notifications/read", json={"ids": [first]}).json() == {"unread": 1}
    assert [one["type"] for one in listed(expert, "?unread=true")] == ["offer.created"]
    assert expert.post("/v1/notifications/read", json={}).json() == {"unread": 0}


def test_the_people_of_a_lab_and_of_ops_are_told_of_theirs(
    web: Web, db: Session, settings: Settings
) -> None:
    lab, ops = make_caller(db, web, Part.LAB), make_caller(db, web, Part.OPS)
    emit(db, Event.BUDGET_EXHAUSTED, new_id(), at=now(), organisation_id=lab.organisation_id)
    emit(db, Event.PAYOUT_ESCALATED, new_id(), at=now())
    publish(db, at=now())
    tell_people(settings)
    assert [one["type"] for one in listed(lab)] == ["budget.exhausted"]
    assert [one["type"] for one in listed(ops)] == ["payout.escalated"]


def test_an_urgent_letter_leaves_at_once_over_tls_and_login(
    expert: Caller, mail: MailServer, mailing: Settings
) -> None:
    happen(Event.OFFER_CREATED, expert)
    for _ in range(3):
        tell_people(mailing)
    (letter,) = mail.got
    assert letter["Subject"] == "You have an offer"
    assert letter["From"] == "house@market.example"
    assert letter["To"].startswith("expert.")
    assert letter["Message-ID"].endswith("@market.example>")


@pytest.mark.parametrize(
    ("refusal", "state"),
    [("451 come back later", "waiting"), ("552 no room", "waiting")],
)
def test_a_letter_that_was_refused_is_sent_again_and_arrives_once(
    db: Session, expert: Caller, mail: MailServer, mailing: Settings, refusal: str, state: str
) -> None:
    mail.refuse_with = refusal
    happen(Event.OFFER_CREATED, expert)
    tell_people(mailing)
    letter = db.scalars(select(Letter)).one()
    db.refresh(letter)
    assert (letter.state, letter.attempts) == (state, 1)
    assert letter.error is not None
    assert letter.error.startswith(refusal[:3])
    tell_people(mailing)
    db.refresh(letter)
    assert letter.attempts == 1
    mail.refuse_with = ""
    db.execute(update(Letter).values(due_at=now()))
    for _ in range(2):
        tell_people(mailing)
    db.refresh(letter)
    assert (letter.state, letter.attempts) == ("sent", 2)
    assert len(mail.got) == 1


def test_a_mail_server_that_is_away_or_refuses_the_login_loses_no_letter(
    db: Session, expert: Caller, mail: MailServer, mailing: Settings
) -> None:
    happen(Event.OFFER_CREATED, expert)
    for wrong in ({"smtp_password": "another"}, {"smtp_port": 9}, {"smtp_ca_file": ""}):
        tell_people(msgspec.structs.replace(mailing, **wrong))
        db.execute(update(Letter).values(due_at=now()))
    assert mail.got == []
    assert db.scalars(select(Letter.attempts)).one() == 3
    tell_people(mailing)
    assert len(mail.got) == 1


def test_what_can_wait_is_gathered_into_one_letter_and_sent_once(
    db: Session, expert: Caller, mail: MailServer, mailing: Settings
) -> None:
    for event in (Event.OFFER_TIMED_OUT, Event.EARNING_ACCRUED, Event.PAYOUT_ON_ITS_WAY):
        happen(event, expert)
    tell_people(mailing)
    assert mail.got == []
    # One of them is read meanwhile.
    expert.post("/v1/notifications/read", json={"ids": [listed(expert)[0]["id"]]})
    db.execute(update(NoticePreference).values(next_digest_at=now()))
    for _ in range(3):
        tell_people(mailing)
    (letter,) = mail.got
    assert letter["Subject"] == "2 things happened"
    body = letter.get_payload()
    assert isinstance(body, str)
    assert "You earned something" in body
    assert "on its way" not in body
    db.execute(update(NoticePreference).values(next_digest_at=now()))
    tell_people(mailing)
    assert len(mail.got) == 1


def test_a_person_chooses_how_it_is_told(
    expert: Caller, mail: MailServer, mailing: Settings
) -> None:
    seen = expert.get("/v1/notification-preferences")
    assert (seen.json()["timezone"], seen.json()["hour"]) == ("UTC", 8)
    chosen = {"timezone": "Asia/Tokyo", "digest": "weekly", "hour": 7, "mails": {"offers": "never"}}
    changed = expert.patch("/v1/notification-preferences", json=chosen)
    assert changed.status_code == 200, changed.text
    due = datetime.fromisoformat(changed.json()["next_digest_at"])
    assert (due.astimezone(UTC).weekday(), due.astimezone(UTC).hour) == (6, 22)
    happen(Event.OFFER_CREATED, expert)
    happen(Event.SUBMISSION_ACCEPTED, expert)
    tell_people(mailing)
    assert [one["Subject"] for one in mail.got] == ["Your work was accepted"]
    for body, code in (
        ({"timezone": "Mars/Olympus"}, "preference_invalid"),
        ({"hour": 24}, "preference_invalid"),
        ({"mails": {"gossip": "now"}}, "topic_unknown"),
        ({"mails": {"offers": "often"}}, "invalid_body"),
    ):
        refused = expert.patch("/v1/notification-preferences", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, code)


def test_a_digest_comes_at_the_same_hour_of_the_day_when_clocks_change() -> None:
    zone = "Europe/Berlin"
    at = datetime(2026, 3, 27, 12, tzinfo=UTC)
    hours = []
    for _ in range(3):
        at = next_digest(at, zone, hour=8, digest=Digest.DAILY)
        hours.append((at.day, at.hour))
    assert hours == [(28, 7), (29, 6), (30, 6)]
    weekly = next_digest(at, zone, hour=8, digest=Digest.WEEKLY)
    assert (weekly.weekday(), weekly.day) == (0, 6)
    assert next_try(1) == timedelta(minutes=1)
    assert next_try(19) == timedelta(hours=6)
    assert next_try(20) is None


def test_two_tellers_at_once_tell_nobody_twice(committed: str, mailing: Settings) -> None:
    with database.begin(PLATFORM) as session:
        person = new_id()
        session.execute(
            text(
                "insert into market.person (id, name, email, created_at)"
                " values (:id, 'P', 'p@x.example', now())"
            ),
            {"id": person},
        )
        for _ in range(50):
            emit(session, Event.OFFER_CREATED, new_id(), at=now(), person_id=person)
    with database.begin(PLATFORM) as session:
        publish(session, at=now())
    gate = threading.Barrier(4)
    taken: list[set[Any]] = []

    def tell() -> None:
        gate.wait()
        for _ in range(3):
            with database.begin(PLATFORM) as session:
                take_notices(session, has_mail=True, at=now())
        # All is told by the slowest of them; now they reach for the letters together.
        gate.wait()
        with database.begin(PLATFORM) as session:
            taken.append({one.id for one in reserve_letters(session, limit=30, at=now())})

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.begin(PLATFORM) as session:
        count = session.scalar(text("select count(*) from market.notification"))
    assert count == 50
    assert sum(len(one) for one in taken) == len(set().union(*taken)) == 50


def test_every_notice_is_of_a_type_that_is_or_is_to_be() -> None:
    planned = {
        *("session.idle", "session.idle_warning", "submission.partially_accepted"),
        *("submission.rework_requested", "submission.returned", "review.overturned"),
        *("appeal.filed", "appeal.decided", "appeal.sla_missed", "qualification.granted"),
        *("qualification.revoked", "qualification.regraded", "terms.published"),
        *("budget.low", "export.ready", "quality.alert"),
    }
    assert set(NOTICES) - {event.value for event in Event} <= planned


@pytest.mark.parametrize(
    "event",
    [
        *(Event.PAY_DISPUTE_OPENED, Event.PAY_DISPUTE_CHANGED, Event.PAY_DISPUTE_DECIDED),
        *(Event.RECOVERY_OPENED, Event.RECOVERY_DECIDED, Event.QUALIFICATION_DENIED),
        *(Event.QUALIFICATION_EXPIRED, Event.OFFER_RELEASED, Event.REVIEW_ASKED),
        *(Event.REVIEW_EXPIRED, Event.EARNING_APPROVED),
    ],
)
def test_whoever_a_change_concerns_is_told_and_whoever_made_it_is_not(
    web: Web, db: Session, expert: Caller, settings: Settings, event: Event
) -> None:
    lab = make_caller(db, web, Part.LAB)
    facts: dict[str, Any] = {"at": now(), "organisation_id": lab.organisation_id}
    emit(db, event, new_id(), person_id=expert.person_id, **facts)
    emit(db, event, new_id(), person_id=expert.person_id, actor_id=expert.person_id, **facts)
    publish(db, at=now())
    tell_people(settings)
    assert [one["type"] for one in listed(expert)] == [event.value]
    # Of time and pay in dispute both sides are told.
    is_of_both = event.value.startswith("pay_dispute.")
    assert [one["type"] for one in listed(lab)] == [event.value] * (2 if is_of_both else 0)


def test_it_is_told_how_soon_authors_are_told_of_verdicts_and_read_them(
    db: Session, web: Web
) -> None:
    lab = make_caller(db, web, Part.LAB)
    began = now().replace(microsecond=0) - timedelta(hours=2)
    project = make_project(db, lab.organisation_id, reviews_per_submission=1, at=began)
    path = f"/v1/projects/prj_{project.id.hex}/feedback"
    authors = []
    for nth in range(FEWEST_READ):
        offer = make_offer(db, make_task(db, project, at=began), make_expert(db).id, at=began)
        handed = hand_in(db, offer=offer, with_attempt=False, at=began)
        cast(db, handed, ACCEPT, at=began + timedelta(minutes=10 + nth))
        authors.append(key_for(db, web, handed.expert_id, Part.EXPERT))
    db.commit()
    assert lab.get(path).json()["told"] is None
    publish(db, at=now())
    take_notices(db, has_mail=False, at=now())
    db.commit()
    *most, last = authors
    for author in most:
        assert author.post("/v1/notifications/read", json={}).status_code == 200
    found = lab.get(path).json()
    assert (found["verdicts"], found["read"], found["seen"]) == (FEWEST_READ, FEWEST_READ - 1, None)
    # The third of five was handed in after one minute of work, and decided after twelve.
    assert found["decided"]["p50"] == 11 * 60
    assert found["decided"]["p50"] < found["told"]["p50"] <= found["told"]["p95"]
    last.post("/v1/notifications/read", json={})
    assert lab.get(path).json()["seen"]["p50"] >= found["told"]["p50"]
    come_in(web, lab)
    assert "95 in 100 within" in web.get(f"/console/lab/projects/prj_{project.id.hex}").text
    assert make_caller(db, web, Part.LAB).get(path).status_code == 404
