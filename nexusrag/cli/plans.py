"""Commands for plans: what they contain, what a tenant has, and changing it."""

import sys
from pathlib import Path
from typing import Any

import asyncpg

from nexusrag.billing.plans import provision as plans
from nexusrag.cli.admin import act_on, show
from nexusrag.kernel.features import FEATURES_OF, Feature, PlanId
from nexusrag.settings import Settings


def list_plans(home: Path | None, tenant: str | None, *, as_json: bool) -> None:
    """Print what each plan contains, or what a tenant has."""
    if tenant is None:
        catalogue = {plan.value: {feature.value: feature in FEATURES_OF[plan] for feature in Feature} for plan in PlanId}
        lines = [f"{'':<42}{''.join(f'{plan:<12}' for plan in catalogue)}".rstrip()]
        lines += [f"{key:<42}{''.join(f'{_said(has[key]):<12}' for has in catalogue.values())}".rstrip() for key in Feature]
        show(catalogue, as_json, "\n".join(lines))
        return

    async def act(connection: "asyncpg.Connection[Any]", settings: Settings) -> dict[str, Any]:
        return await plans.describe(connection, tenant, settings.auth.default_plan)

    held = act_on(home, act)
    lines = [
        f"{key:<42}{_said(on):<4}{'  overridden' if key in held['overridden'] else ''}".rstrip() for key, on in held["features"].items()
    ]
    until = f" until {held['effective_to']:%Y-%m-%d %H:%M} UTC" if held["effective_to"] else ""
    show(held, as_json, "\n".join([f"{tenant}: {held['plan_id']}{until}", *lines]))


def set_plan(home: Path | None, tenant: str, plan: str) -> None:
    """Assign a plan."""

    async def act(connection: "asyncpg.Connection[Any]", _: Settings) -> None:
        await plans.assign(connection, tenant, plan)

    act_on(home, act)
    sys.stdout.write(f"{tenant} has the plan {plan}.\n")


def switch_feature(home: Path | None, tenant: str, key: str, state: str) -> None:
    """Switch a feature for one tenant, or leave it to the plan again."""

    async def act(connection: "asyncpg.Connection[Any]", _: Settings) -> None:
        await plans.switch(connection, tenant, key, state)

    act_on(home, act)
    sys.stdout.write(f"{tenant}: {key} is {'as its plan has it' if state == 'default' else state}.\n")


def _said(on: bool) -> str:
    return "yes" if on else "no"
