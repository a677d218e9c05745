"""Steps down to a lower pay tier: announced, never at once, open to appeal."""

import sqlalchemy as sa
from alembic import op

revision = "0061"
down_revision = "0060"
branch_labels = None
depends_on = None

KINDS = "('submission', 'measure', 'qualification')"
WAITS = (
    "announced_at is null or isempty(during)"
    " or (lower(during) >= announced_at + interval '168 hours'"
    " and lower(during) = date_trunc('week', lower(during), 'UTC'))"
)
GUARD = """
create function market.guard_demotion() returns trigger language plpgsql as $$
begin
    if new.announced_at is null and exists (
        select from market.tier_assignment before
        where before.expert_id = new.expert_id and before.id <> new.id
            and upper(before.during) = lower(new.during) and before.tier > new.tier
    ) then
        raise exception 'a step down from a pay tier has to be announced'
            using errcode = 'check_violation', constraint = 'tier_assignment_announced';
    end if;
    return new;
end $$
"""


def upgrade() -> None:
    op.add_column(
        "tier_assignment", sa.Column("announced_at", sa.DateTime(timezone=True)), schema="market"
    )
    op.create_check_constraint("announced_at", "tier_assignment", WAITS, schema="market")
    op.execute(GUARD)
    op.execute(
        "create trigger tier_assignment_announced before insert on market.tier_assignment"
        " for each row execute function market.guard_demotion()"
    )
    _allow_kinds(KINDS.replace(")", ", 'tier')"))


def downgrade() -> None:
    op.execute("delete from market.appeal where kind = 'tier'")
    _allow_kinds(KINDS)
    op.execute("drop trigger tier_assignment_announced on market.tier_assignment")
    op.execute("drop function market.guard_demotion")
    # What was taken back before it began was in force for no time.
    op.execute("delete from market.tier_assignment where isempty(during)")
    op.drop_column("tier_assignment", "announced_at", schema="market")


def _allow_kinds(kinds: str) -> None:
    op.drop_constraint("ck_appeal_kind", "appeal", schema="market")
    op.create_check_constraint("kind", "appeal", f"kind in {kinds}", schema="market")
