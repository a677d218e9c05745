"""The tables of webhooks: endpoints, their keys, what is sent to them and each attempt."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, LargeBinary, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from market.db import Base, new_id

DUE = "state in ('pending', 'retrying')"


class WebhookEndpoint(Base):
    """Where a tenant wants to hear what happens; empty lists of types or projects mean all.

    Everything up to `told_seq` of the tenant's feed has become deliveries. `failing_since` is the
    first failure since something last arrived; before `not_before` nothing is sent.
    """

    __tablename__ = "webhook_endpoint"
    __table_args__ = (
        CheckConstraint("state in ('active', 'failing', 'disabled')", name="state"),
        CheckConstraint("feed_kind in ('platform', 'organisation', 'person')", name="feed_kind"),
        CheckConstraint("signature in ('v1', 'v1a')", name="signature"),
        Index("ix_webhook_endpoint_tenant_id", "tenant_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    tenant_id: Mapped[UUID]
    feed_kind: Mapped[str]
    url: Mapped[str]
    description: Mapped[str]
    types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    project_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    is_full: Mapped[bool]
    signature: Mapped[str]
    created_by: Mapped[UUID]
    created_at: Mapped[datetime]
    told_seq: Mapped[int]
    state: Mapped[str] = mapped_column(default="active")
    is_slow: Mapped[bool] = mapped_column(default=False)
    slow_level: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime | None] = mapped_column(default=None)
    failing_since: Mapped[datetime | None] = mapped_column(default=None)
    disabled_reason: Mapped[str | None] = mapped_column(default=None)
    removed_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)


class WebhookKey(Base):
    """A key that signs an endpoint's webhooks, sealed; the old one goes on for a while."""

    __tablename__ = "webhook_key"
    __table_args__ = (Index("ix_webhook_key_endpoint_id", "endpoint_id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("market.webhook_endpoint.id"))
    kind: Mapped[str]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    public_key: Mapped[str | None]
    created_at: Mapped[datetime]
    retires_at: Mapped[datetime | None] = mapped_column(default=None)


class WebhookDelivery(Base):
    """One message to one endpoint: an event, or a ping without one. The row is its own timer.

    Whoever sends it holds it until `leased_until`; a sender that dies is followed by another.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        CheckConstraint(
            "state in ('pending', 'retrying', 'delivered', 'exhausted', 'replayed')", name="state"
        ),
        Index("ix_webhook_delivery_endpoint_id", "endpoint_id", "id"),
        Index("ix_webhook_delivery_due", "endpoint_id", "due_at", postgresql_where=text(DUE)),
        Index(
            "uq_webhook_delivery_event",
            "endpoint_id",
            "event_id",
            unique=True,
            postgresql_where=text("state <> 'replayed'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("market.webhook_endpoint.id"))
    tenant_id: Mapped[UUID]
    type: Mapped[str]
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    event_id: Mapped[UUID | None] = mapped_column(ForeignKey("market.event.id"), default=None)
    seq: Mapped[int | None] = mapped_column(default=None)
    replay_of: Mapped[UUID | None] = mapped_column(default=None)
    state: Mapped[str] = mapped_column(default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    leased_until: Mapped[datetime | None] = mapped_column(default=None)
    settled_at: Mapped[datetime | None] = mapped_column(default=None)
    version: Mapped[int] = mapped_column(default=1)


class WebhookAttempt(Base):
    """One try at sending, written before it is made; without an end its sender died.

    Units: seconds from the first byte sent to the last received.
    """

    __tablename__ = "webhook_attempt"

    delivery_id: Mapped[UUID] = mapped_column(
        ForeignKey("market.webhook_delivery.id"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(default=None)
    outcome: Mapped[str | None] = mapped_column(default=None)
    status: Mapped[int | None] = mapped_column(default=None)
    error: Mapped[str | None] = mapped_column(default=None)
    reply: Mapped[str | None] = mapped_column(default=None)
    ms: Mapped[int | None] = mapped_column(default=None)
