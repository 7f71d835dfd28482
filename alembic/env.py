"""Runs migrations as the role nexusrag_system, one runner at a time, in one transaction. Called by `nexusrag migrate`."""

from nexusrag.infra.migrate import run_from_alembic

run_from_alembic()
