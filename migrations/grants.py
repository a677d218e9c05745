"""Roles, grants and row security, in the words of the people they stand for."""

from alembic import op

PLATFORM = "stumpwork_platform"
LAB = "stumpwork_lab"
EXPERT = "stumpwork_expert"
REVIEWER = "stumpwork_reviewer"


def platform_may(table: str, rights: str = "select, insert, update, delete") -> None:
    """Let the platform (ops, jobs, the relay) work on every row of a table."""
    op.execute(f"grant {rights} on {table} to {PLATFORM}")


def guard_rows(table: str) -> None:
    """Close a table to every role but the platform; `tenant_may` opens parts of it again.

    The owner, who runs migrations, is not bound; the service never runs as the owner.
    """
    op.execute(f"alter table {table} enable row level security")
    op.execute(
        f"create policy platform on {table} for all to {PLATFORM} using (true) with check (true)"
    )


def tenant_may(table: str, role: str, rights: str, rows: str) -> None:
    """Let a role use some rights (`select, insert, update`) on the rows that a condition names.

    `market.tenant()` is the organisation's id for a lab, the person's id for everybody else.
    """
    op.execute(f"grant {rights} on {table} to {role}")
    for right in (r.strip() for r in rights.split(",")):
        command = right.split("(")[0].strip()
        name = f"{role.removeprefix('stumpwork_')}_{command}"
        clauses = {
            "select": f"using ({rows})",
            "delete": f"using ({rows})",
            "insert": f"with check ({rows})",
            "update": f"using ({rows}) with check ({rows})",
        }
        op.execute(f"create policy {name} on {table} for {command} to {role} {clauses[command]}")


def append_only(table: str) -> None:
    """Refuse every change and removal of a row, whoever asks."""
    name = table.replace(".", "_")
    op.execute(
        f"create trigger {name.split('_', 1)[1]}_append_only before update or delete on {table}"
        " for each row execute function market.refuse_change()"
    )
    op.execute(
        f"create trigger {name.split('_', 1)[1]}_no_truncate before truncate on {table}"
        " for each statement execute function market.refuse_change()"
    )


def machine(table: str, name: str, pairs: set[tuple[str, str]]) -> None:
    """Make the database refuse every move of a table's `state` that is not among the pairs.

    A start is the pair `('', state)`.
    """
    values = ", ".join(f"('{name}', '{source}', '{target}')" for source, target in sorted(pairs))
    op.execute(f"insert into market.state_rule (machine, from_state, to_state) values {values}")
    op.execute(
        f"create trigger {table.split('.')[-1]}_state before insert or update of state on {table}"
        f" for each row execute function market.guard_state('{name}')"
    )


def drop_machine(name: str) -> None:
    """Forget a machine's pairs; its trigger went with its table."""
    op.execute(f"delete from market.state_rule where machine = '{name}'")


def allow_moves(name: str, pairs: set[tuple[str, str]]) -> None:
    """Let a machine take further moves."""
    values = ", ".join(f"('{name}', '{source}', '{target}')" for source, target in sorted(pairs))
    op.execute(f"insert into market.state_rule (machine, from_state, to_state) values {values}")


def forbid_moves(name: str, pairs: set[tuple[str, str]]) -> None:
    """Take moves from a machine again."""
    for source, target in sorted(pairs):
        op.execute(
            f"delete from market.state_rule where machine = '{name}'"
            f" and from_state = '{source}' and to_state = '{target}'"
        )
