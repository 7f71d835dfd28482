"""The catalogue of error codes: closed, one status each, the same as the interface that clients rely on."""

from pathlib import Path

import pytest

from nexusrag.kernel.errors import STATUS, ErrorCode

TABLE = Path(__file__).parents[3] / "shared" / "contract" / "errors-nexusrag.tsv"


def test_every_code_has_one_status() -> None:
    assert set(STATUS) == set(ErrorCode)
    assert all(code.value == code.name for code in ErrorCode)
    # A replay that has expired is told inside a stream, which has begun well.
    assert {code for code, status in STATUS.items() if not 400 <= status <= 599} == {ErrorCode.RESUME_UNSUPPORTED}


@pytest.mark.skipif(not TABLE.exists(), reason="the contract's tables are not beside this checkout")
def test_the_catalogue_is_the_contracts() -> None:
    rows = [line.split("\t") for line in TABLE.read_text().splitlines()[1:] if line]
    contract = {row[0]: int(row[1]) for row in rows}
    assert {code.value: status for code, status in STATUS.items() if code.value in contract} == contract
