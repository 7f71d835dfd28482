"""What a load test saw, and the page that shows it: one HTML file with its plots in it."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from math import isnan, nan
from pathlib import Path

from tests.benchmarks.load.charts import line_chart

_STYLE = """body { font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left } svg { max-width: 100%; height: auto; margin: .5em 0 }"""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it was sent and how long it took (seconds), by whom, what was asked and what came of it (`ok` or a code)."""

    at: float
    took: float
    who: str
    kind: str
    code: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process says of itself at a moment."""

    at: float
    lag_ms: float
    limit: float
    in_flight: float


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the test. `capacity` is how many good answers a second there were at most just before, 0 where nobody looked."""

    name: str
    start: float
    end: float
    capacity: float


@dataclass
class Run:
    """One test: its phases, one after the other, and what was seen."""

    title: str
    deadline_s: float
    phases: list[Phase] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def offered(self, phase: Phase) -> float:
        """What was really asked, in parts of the capacity: a load generator may be too busy as well."""
        return round(len(self.within(phase)) / (phase.end - phase.start) / phase.capacity, 1)

    def within(self, phase: Phase) -> list[Answer]:
        return [one for one in self.answers if phase.start <= one.at < phase.end]


Keep = Callable[[Answer], bool]
Value = Callable[[list[Answer], float], float]  # of answers, and of the seconds in which they were asked for


def quantile(values: Iterable[float], part: float) -> float:
    """In milliseconds, of seconds; nan of nothing."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1000 if ordered else nan


def good(answers: Iterable[Answer], deadline_s: float) -> list[Answer]:
    return [one for one in answers if one.code == "ok" and one.took <= deadline_s]


def page(ramp: Run, flood: Run, about: str) -> str:
    """The report."""
    parts = [
        f"<h1>Load test</h1><p>{escape(about)}</p>",
        f"<h2>{escape(ramp.title)}</h2>",
        f"<p>An answer is good when it comes within {ramp.deadline_s:g} s. Capacity is how many there were a second just before, "
        "with a dozen clients that wait for their answers. A phase offers a multiple of it, whether or not earlier requests were "
        "answered.</p>",
        _ramp_table(ramp),
        *_ramp_charts(ramp),
        f"<h2>{escape(flood.title)}</h2>",
        "<p>The quiet tenants keep below their limits. In the middle one more tenant asks for ten times what it may have.</p>",
        _flood_table(flood),
        *_flood_charts(flood),
    ]
    return f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Load test</title><style>{_STYLE}</style>{''.join(parts)}</html>"


def write(directory: Path, ramp: Run, flood: Run, about: str) -> Path:
    """`report.html`, and `figures.json` with what it was made of. Returns the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "figures.json").write_text(json.dumps({"ramp": asdict(ramp), "flood": asdict(flood)}))
    path = directory / "report.html"
    path.write_text(page(ramp, flood, about))
    return path


def _ramp_table(run: Run) -> str:
    rows = []
    for phase in run.phases:
        answers, seconds = run.within(phase), phase.end - phase.start
        well = good(answers, run.deadline_s)
        refused = [one.took for one in answers if one.code != "ok"]
        codes = Counter(one.code for one in answers if one.code != "ok")
        rows.append((
            phase.name, len(answers) / seconds, phase.capacity, len(well) / seconds, f"{len(well) / seconds / phase.capacity:.2f}",
            quantile((one.took for one in well), 0.5), quantile((one.took for one in well), 0.95), quantile(refused, 0.5),
            ", ".join(f"{code} {number}" for code, number in codes.most_common()) or "none",
        ))  # fmt: skip
    head = ("offered", "a second", "capacity", "good", "of capacity", "p50 ms", "p95 ms", "refused p50 ms", "not answered well")
    return _table(head, rows)


def _ramp_charts(run: Run) -> list[str]:
    over = "offered, in parts of the capacity"

    def by_phase(value: Value, keep: Keep = lambda _: True) -> list[tuple[float, float]]:
        return [
            (run.offered(phase), value([one for one in run.within(phase) if keep(one)], phase.end - phase.start)) for phase in run.phases
        ]

    def each(name: str, value: Value) -> dict[str, list[tuple[float, float]]]:
        """For every tenant (`who`), or every kind of request."""
        return {one: by_phase(value, _is(name, one)) for one in sorted({getattr(answer, name) for answer in run.answers})}

    def took(part: float) -> Value:
        return lambda answers, _: quantile((one.took for one in good(answers, run.deadline_s)), part)

    def share(answers: list[Answer], _: float) -> float:
        return len(good(answers, run.deadline_s)) / len(answers) if answers else nan

    answered = {
        "all answers": by_phase(lambda answers, seconds: len(answers) / seconds),
        "good answers": by_phase(lambda answers, seconds: len(good(answers, run.deadline_s)) / seconds),
        "refused": by_phase(lambda answers, seconds: sum(one.code != "ok" for one in answers) / seconds),
        "capacity": [(run.offered(phase), phase.capacity) for phase in run.phases],
    }
    return [
        line_chart("Throughput and goodput", over, "a second", answered),
        line_chart("How long good answers take: p50", over, "ms", each("kind", took(0.5)), log=True),
        line_chart("How long good answers take: p95", over, "ms", each("kind", took(0.95)), log=True),
        line_chart("p95 by tenant", over, "ms", each("who", took(0.95)), log=True),
        line_chart("Who is answered: part of a tenant's requests", over, "part", each("who", share)),
        line_chart("What is answered: part of a kind's requests", over, "part", each("kind", share)),
        *_over_time(run),
    ]


def _over_time(run: Run) -> list[str]:
    phases = [(phase.start, phase.end, phase.name) for phase in run.phases]
    codes = [code for code, _ in Counter(one.code for one in run.answers).most_common(8)]
    lag, limits = (
        {"loop, late by": [(one.at, one.lag_ms) for one in run.samples]},
        {
            "may be in flight": [(one.at, min(one.limit, 100)) for one in run.samples],
            "in flight": [(one.at, one.in_flight) for one in run.samples],
        },
    )
    return [
        line_chart("Answers by code", "seconds", "a second", {code: _each_second(run, _is("code", code)) for code in codes}, phases=phases),
        line_chart("When less was taken: requests in flight (up to 100)", "seconds", "requests", limits, phases=phases),
        line_chart("Standing delay of the process", "seconds", "ms", lag, phases=phases),
    ]


def _flood_table(run: Run) -> str:
    rows = []
    for phase in run.phases:
        for who in sorted({one.who for one in run.within(phase)}):
            of_it = [one for one in run.within(phase) if one.who == who]
            well = good(of_it, run.deadline_s)
            codes = Counter(one.code for one in of_it if one.code != "ok")
            rows.append((
                f"{phase.name}: {who}", len(of_it) / (phase.end - phase.start), f"{len(well) / len(of_it):.2f}",
                quantile((one.took for one in well), 0.5), quantile((one.took for one in well), 0.95),
                ", ".join(f"{code} {number}" for code, number in codes.most_common()) or "none",
            ))  # fmt: skip
    return _table(("phase and tenant", "a second", "good part", "p50 ms", "p95 ms", "not answered well"), rows)


def _flood_charts(run: Run) -> list[str]:
    phases = [(phase.start, phase.end, phase.name) for phase in run.phases]
    whose = sorted({one.who for one in run.answers})
    codes = sorted({one.code for one in run.answers if one.who == "flooding"})
    p95 = {who: _each_second(run, _is("who", who), lambda of_it: quantile((one.took for one in good(of_it, 1e9)), 0.95)) for who in whose}
    refused = {code: _each_second(run, lambda one, code=code: one.who == "flooding" and one.code == code) for code in codes}  # type: ignore[misc]
    return [
        line_chart("p95 of good answers by tenant, second by second", "seconds", "ms", p95, phases=phases, log=True),
        line_chart("What the flooding tenant is answered", "seconds", "a second", refused, phases=phases),
    ]


def _is(name: str, value: str) -> Keep:
    return lambda one: getattr(one, name) == value


def _each_second(
    run: Run, keep: Keep, value: Callable[[list[Answer]], float] = lambda of_it: float(len(of_it))
) -> list[tuple[float, float]]:
    seconds: dict[int, list[Answer]] = defaultdict(list)
    for one in run.answers:
        if keep(one):
            seconds[int(one.at)].append(one)
    ends = [phase.end for phase in run.phases]
    return [(second, value(seconds[second])) for second in range(int(max(ends, default=0)))]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def cell(value: object) -> str:
        if isinstance(value, float):
            return "–" if isnan(value) else f"{value:.0f}" if value >= 10 else f"{value:.1f}"
        return escape(str(value))

    lines = ["".join(f"<td>{cell(value)}</td>" for value in row) for row in rows]
    return f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
