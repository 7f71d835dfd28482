"""The dashboard on the wire."""

from typing import Any, Literal

from pydantic import BaseModel


class UiCard(BaseModel):
    """One figure, written as it is to be shown."""

    id: str
    title: str
    value: str
    subtitle: str | None = None


class UiChart(BaseModel):
    """Points in the order in which they are drawn."""

    id: str
    points: list[dict[str, Any]]


class UiAlert(BaseModel):
    id: str
    message: str
    severity: Literal["info", "warning", "critical"]


class UiDashboard(BaseModel):
    """The last `window_days` UTC days, today included. `charts` by their id."""

    window_days: int
    cards: list[UiCard]
    charts: dict[str, UiChart]
    alerts: list[UiAlert]
