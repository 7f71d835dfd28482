"""What every migration does with new tables: the wall between tenants in the database, and what the application may touch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy.util import await_only

from alembic import op
from nexusrag.infra.database import APP_ROLE

# What the application sees when no tenant is set is nothing, never everything.
OWN = "= nullif(current_setting('app.tenant', true), '')"


def run(script: Path) -> None:
    """Several statements at once: the driver's simple protocol takes a whole script."""
    driver: Any = op.get_bind().connection.driver_connection
    await_only(driver.execute(script.read_text()))


def wall(table: str, using: str, check: str | None = None) -> None:
    """The application sees and writes rows of the table as `using` and `check` allow; the system role sees all."""
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"create policy tenant on {table} to {APP_ROLE} using ({using}) with check ({check or using})")
    op.execute(f"create policy system on {table} to nexusrag_system using (true) with check (true)")


def own_rows(tables: Iterable[str]) -> None:
    """In each of the tables every row belongs to one tenant, by its `tenant_id`."""
    for table in tables:
        wall(table, f"tenant_id {OWN}")
        allow_rows(table)


def allow_rows(table: str) -> None:
    op.execute(f"grant select, insert, update, delete on {table} to {APP_ROLE}")


def allow_calls(functions: Iterable[str]) -> None:
    """The application may call these; each with the types of its arguments."""
    for function in functions:
        op.execute(f"grant execute on function {function} to {APP_ROLE}")
