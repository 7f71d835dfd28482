"""The report of the load test: what it says of a small test whose figures are known."""

import json
from pathlib import Path
from xml.etree import ElementTree

from tests.benchmarks.load.charts import line_chart
from tests.benchmarks.load.report import Answer, Phase, Run, Sample, write


def seen(of: str, phases: int) -> Run:
    """A phase of ten seconds each: ten answers a second by `of`, the half of them refused from the second phase on."""
    run = Run(f"Load of {of}", 3)
    for number in range(phases):
        run.phases.append(Phase(f"{number} ×", 10 * number, 10 * number + 10, 10 / (number or 2)))
        for place in range(100):
            at = 10 * number + place / 10
            run.answers.append(Answer(at, 0.1, of, "run", "SLA_SHED_LOAD" if number and place % 2 else "ok"))
        run.samples.append(Sample(10 * number, 5.0, 10_000, 3))
    return run


def test_a_report_has_its_figures_and_plots_in_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "new", seen("free & 1", 2), seen("flooding", 3), "A test.")
    text = path.read_text()
    assert (
        "<td>1 ×</td><td>10</td><td>10</td><td>5.0</td><td>0.50</td><td>100</td><td>100</td><td>100</td><td>SLA_SHED_LOAD 50</td>" in text
    )
    assert "<td>0 ×: flooding</td><td>10</td><td>1.00</td>" in text
    charts = [f"<svg{piece.partition('</svg>')[0]}</svg>" for piece in text.split("<svg")[1:]]
    assert len(charts) == 11
    for chart in charts:
        ElementTree.fromstring(chart)
    assert "free &amp; 1" in text
    assert text.count("http") == len(charts)  # the namespace of SVG: nothing is fetched from anywhere
    assert json.loads((tmp_path / "new" / "figures.json").read_text())["ramp"]["phases"][1]["capacity"] == 10


def test_what_is_no_number_is_left_out_of_a_chart() -> None:
    chart = line_chart("t", "x", "y", {"a": [(0, 1.0), (1, float("nan")), (2, 3.0)], "b": []}, log=True)
    assert chart.count("<circle") == 2
    assert line_chart("t", "x", "y", {"a": []}) == "<p>t: nothing was measured.</p>"
