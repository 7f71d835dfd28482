"""Mutation testing of what decides who may do what: `python scripts/mutate.py [MODULE ...]`, by default all of TARGETS.

Each mutant is one small change of one module: a comparison turned round, a constant replaced, a statement left out. It is killed if
a test fails. Prints the survivors and the score; exits with 1 below 90 %. Each mutant runs in a process of its own, forked from one
that has imported what does not change; all ask one database.
"""

import argparse
import ast
import contextlib
import copy
import functools
import importlib
import importlib.abc
import importlib.machinery
import io
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

# Imported once, for all children.
import asyncpg
import hypothesis  # noqa: F401
import pydantic  # noqa: F401
import pytest
import re2  # noqa: F401
import sqlalchemy.ext.asyncio  # noqa: F401

ROOT = Path(__file__).parent.parent
LEAST = 0.9
_POLICIES = "tests/access/policies/test_{}.py"
_TIME, _COMPARED, _READ, _DECIDED, _MATCHED, _BOTH = (
    _POLICIES.format(name) for name in ("time_and_place", "comparisons", "language", "decide", "patterns", "both_engines_agree")
)
_NAIVE, _CEDAR = "tests/proof/test_policies_without_a_database.py", "tests/proof/test_cedar.py"
_CREDENTIALS = ("tests/identity/test_persons.py", "tests/identity/test_checks.py")
# Modules, each with the tests that look at it, the quickest first. None of them asks a database, but what they make of a condition is
# held against what PostgreSQL makes of it.
TARGETS: dict[str, tuple[str, ...]] = {
    "nexusrag/access/policies/attributes.py": (_TIME, _NAIVE, _COMPARED, _READ, _BOTH),
    "nexusrag/access/policies/caller.py": (_NAIVE,),
    "nexusrag/access/policies/decide.py": (_NAIVE, _DECIDED, _CEDAR),
    "nexusrag/access/policies/evaluate.py": (_NAIVE, _COMPARED, _TIME, _BOTH),
    "nexusrag/access/policies/index.py": (_NAIVE, _DECIDED),
    "nexusrag/access/policies/language.py": (_READ, _NAIVE, _COMPARED),
    "nexusrag/access/policies/network.py": (_TIME,),
    "nexusrag/access/policies/patterns.py": (_MATCHED,),
    "nexusrag/access/policies/residual.py": (_COMPARED, _DECIDED, _BOTH),
    "nexusrag/access/policies/sql.py": (_DECIDED, _COMPARED, _MATCHED, _BOTH),
    "nexusrag/access/policies/values.py": (_NAIVE, _COMPARED, _BOTH),
    "nexusrag/access/policies/window.py": (_TIME,),
    "nexusrag/kernel/tokens.py": ("tests/kernel/test_tokens.py",),
    "nexusrag/identity/credentials/persons.py": _CREDENTIALS,
    "nexusrag/identity/credentials/checks.py": _CREDENTIALS,
    "nexusrag/web/gate.py": ("tests/web/test_gate.py",),
}
_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.In: ast.NotIn,
    ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.Break: ast.Continue, ast.Continue: ast.Break,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: `source` is the whole module with it, `told` the line, what stood there and what stands there now."""

    module: str
    line: int
    told: str
    source: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.told}"


def mutants(module: str) -> Iterator[Mutant]:
    """Every mutant of a module. What is said to people, types and declarations of data classes are left as they are."""
    text = (ROOT / module).read_text()
    tree = ast.parse(text)
    left_out = set(_left_out(tree))
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in left_out or not hasattr(node, "lineno"):
            continue
        for changed in _changes(node):
            whole = copy.deepcopy(tree)
            place = next(one for other, one in enumerate(ast.walk(whole)) if other == number)
            _put(whole, place, changed)
            ast.fix_missing_locations(whole)
            yield Mutant(module, node.lineno, f"{_short(node)}  →  {_short(changed)}", ast.unparse(whole))


def _left_out(tree: ast.Module) -> Iterator[int]:
    """Docstrings, annotations, types, decorators, and the texts of errors."""
    for node in ast.walk(tree):
        skipped: list[ast.AST | None] = []
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            skipped.append(first if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) else None)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            skipped += node.decorator_list
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            skipped.append(node.returns)
        if isinstance(node, ast.arg | ast.AnnAssign):
            skipped.append(node.annotation)
        if isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias":
            skipped.append(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            skipped.append(node)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            skipped.append(node)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
            skipped.append(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            skipped.append(node)  # prose
        if isinstance(node, ast.JoinedStr):
            skipped += [part for part in node.values if isinstance(part, ast.Constant)]
        for one in skipped:
            if one is not None:
                yield from (id(below) for below in ast.walk(one))


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of the node."""
    if isinstance(node, ast.Compare | ast.BoolOp | ast.BinOp | ast.AugAssign):
        yield from _operators(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from (ast.Constant(value) for value in _constants(node.value))
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare):  # whose operator changes
        changed = copy.copy(node)
        changed.test = ast.UnaryOp(ast.Not(), node.test)
        yield changed
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Break | ast.Continue):
        yield _SWAPS[type(node)]()
    elif isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Yield | ast.YieldFrom)):
        yield ast.Pass()


def _operators(node: ast.Compare | ast.BoolOp | ast.BinOp | ast.AugAssign) -> Iterator[ast.AST]:
    operators = node.ops if isinstance(node, ast.Compare) else [node.op]
    for place, operator in enumerate(operators):
        if type(operator) in _SWAPS:
            changed = copy.copy(node)
            swapped: Any = _SWAPS[type(operator)]()
            if isinstance(changed, ast.Compare):
                changed.ops = [swapped if other == place else one for other, one in enumerate(changed.ops)]
            else:
                changed.op = swapped
            yield changed


def _constants(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
    elif isinstance(value, str):
        yield f"{value}~" if value else "~"


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _put(tree: ast.AST, place: ast.AST, changed: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is place:
                setattr(parent, name, changed)
                return
            if isinstance(value, list) and any(one is place for one in value):
                value[next(number for number, one in enumerate(value) if one is place)] = changed
                return


def _short(node: ast.AST) -> str:
    line = ast.unparse(node).split("\n")[0]
    return line if len(line) <= 90 else line[:87] + "..."


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Gives the mutated source in the place of the module's own."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = mutant.module.removesuffix(".py").replace("/", ".")
        self._source = mutant.source

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == self._name else None

    def get_source(self, fullname: str) -> str:
        return self._source

    def is_package(self, fullname: str) -> bool:
        return False


class _Database:
    """The fixture of tests/access/policies/conftest.py, of servers that somebody else keeps."""

    @pytest.fixture(scope="session")
    async def database(self) -> AsyncIterator[Any]:
        connect_arguments: Any = importlib.import_module("nexusrag.infra.urls").connect_arguments
        connection = await asyncpg.connect(**connect_arguments(os.environ[_URL]))
        await connection.execute("set role nexusrag_app")
        yield connection
        await connection.close()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The quick tests first: most mutants do not live to see the slow ones."""
        items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


_URL = "NEXUSRAG_MUTATED_AGAINST"
_SERVE = """
import sys
from tests.support.installation import Servers
servers = Servers()
print(servers.settings.stores.database_migration_url.get_secret_value(), flush=True)
sys.stdin.read()
servers.close()
"""


@contextlib.contextmanager
def _servers() -> Iterator[None]:
    """A migrated database, in another process: this one must not import what is to be mutated."""
    with subprocess.Popen([sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        os.environ[_URL] = child.stdout.readline().strip()  # handed on to the children
        try:
            yield
        finally:
            child.communicate()


class _Passed:
    """Which tests pass with nothing changed: those that need a fixture of the whole do not."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)


def _run(tests: Sequence[str], deselected: Sequence[str], *plugins: object) -> int:
    options = ["-q", "-p", "no:cacheprovider", "--noconftest", "--no-header", *(f"--deselect={one}" for one in deselected)]
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        return int(pytest.main([*options, *([] if plugins else ["-x"]), *tests], plugins=[_Database(), *plugins]))


def _baseline(tests: Sequence[str], told: Path) -> int:
    passed = _Passed()
    _run(tests, (), passed)
    told.write_text("\n".join(passed.failed))
    return 0


def _fork(work: Callable[[], int]) -> int:
    """A child that does the work and ends with what it returns; its process id."""
    child = os.fork()
    if child == 0:
        os._exit(work())
    return child


def _judge(mutant: Mutant, tests: Sequence[str], deselected: Sequence[str]) -> int:
    sys.meta_path.insert(0, _Mutated(mutant))
    return 1 if _run(tests, deselected) else 0


def _survivors(work: Iterator[tuple[Mutant, tuple[str, ...], list[str], float]], jobs: int) -> Iterator[tuple[Mutant, bool]]:
    """Each mutant with whether all tests passed. One that takes too long was noticed, too."""
    running: dict[int, tuple[Mutant, float]] = {}
    waiting = True
    while waiting or running:
        while waiting and len(running) < jobs:
            found = next(work, None)
            if found is None:
                waiting = False
                break
            mutant, tests, deselected, within_s = found
            running[_fork(functools.partial(_judge, mutant, tests, deselected))] = mutant, monotonic() + within_s
        child, status = os.waitpid(-1, os.WNOHANG) if running else (0, 0)
        if child in running:
            yield running.pop(child)[0], status == 0
            continue
        for late in [one for one, (_, end) in running.items() if monotonic() > end]:
            os.kill(late, signal.SIGKILL)
        sleep(0.01)


def _prepared(modules: Sequence[str]) -> Iterator[tuple[Mutant, tuple[str, ...], list[str], float]]:
    for tests in dict.fromkeys(TARGETS[module] for module in modules):
        there = tuple(test for test in tests if (ROOT / test).exists())
        began = monotonic()
        with tempfile.TemporaryDirectory() as directory:
            told = Path(directory, "failed")
            os.waitpid(_fork(functools.partial(_baseline, there, told)), 0)
            deselected = told.read_text().splitlines()
        took = monotonic() - began
        print(f"{len(there)} test files in {took:.0f} s, {len(deselected)} tests left out", flush=True)
        for module in modules:
            if TARGETS[module] == tests:
                for mutant in mutants(module):
                    yield mutant, there, deselected, 3 * took + 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("modules", nargs="*", help="paths of modules, or parts of them")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="look at one mutant in so many")
    given = parser.parse_args()
    modules = [module for module in TARGETS if not given.modules or any(part in module for part in given.modules)]
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    judged: list[tuple[Mutant, bool]] = []
    with _servers():
        for mutant, survived in _survivors(itertools.islice(_prepared(modules), 0, None, given.every), given.jobs):
            judged.append((mutant, survived))
            if survived:
                print(f"survived: {mutant}", flush=True)
    return _report(judged)


def _report(judged: Sequence[tuple[Mutant, bool]]) -> int:
    print()
    for module in dict.fromkeys(mutant.module for mutant, _ in judged):
        own = [survived for mutant, survived in judged if mutant.module == module]
        print(f"{module}: {1 - sum(own) / len(own):.1%} of {len(own)}")
    score = 1 - sum(survived for _, survived in judged) / len(judged)
    print(f"{score:.1%} of {len(judged)} mutants were killed (at least {LEAST:.0%})")
    return 0 if score >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
