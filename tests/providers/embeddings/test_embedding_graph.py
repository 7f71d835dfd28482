"""The committed graph is what its script builds."""

import runpy
from pathlib import Path

import onnx

SCRIPT = Path(__file__).parents[3] / "scripts" / "build_embedding_graph.py"


def test_the_committed_graph_is_what_the_script_builds() -> None:
    script = runpy.run_path(str(SCRIPT))
    assert onnx.load(script["GRAPH"], load_external_data=False) == script["build"]()
