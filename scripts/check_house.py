"""Checks the rules of the house that no general tool knows, from the syntax tree: `python scripts/check_house.py [ROOT]`.

Prints `path:line: rule: what to do` for every breach and exits with 1 if there are any. Types are mypy's, layers import-linter's.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

FILE_LINES = 500
FUNCTION_LINES = 60
WINGS = {
    "console", "operations", "governance", "agents", "knowledge", "inference", "identity", "access", "billing", "flags", "security",
}  # fmt: skip
# These put the application together, and see every domain whole.
ENTRY = ("nexusrag/app.py", "nexusrag/worker.py", "nexusrag/process.py", "nexusrag/domains.py", "nexusrag/pipeline.py", "nexusrag/cli")
# The last resort for a request stands in the route class: whatever failed, the client gets a code.
LAST_RESORT = ("nexusrag/infra", "nexusrag/cli", "nexusrag/app.py", "nexusrag/worker.py", "nexusrag/web/route.py")

_REASON = re.compile(r"#\s*(?!noqa|type:|pragma|fmt:)\S")
_AFTER_MARKER = re.compile(r"#\s*(?:noqa|type:)[^#]*(?P<rest>#.*)?")
_SESSION_WIDE = re.compile(r"\bset_config\s*\([^()]*,\s*(?:false|'f'|0)\s*\)|\bset\s+(?:session\s+)?app\.", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Breach:
    path: str
    line: int
    rule: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.advice}"


@dataclass
class Source:
    """One parsed file. `path` is relative to the project, with slashes."""

    root: Path
    path: str
    text: str
    tree: ast.Module = field(init=False)
    lines: list[str] = field(init=False)
    nodes: list[ast.AST] = field(init=False)
    docstrings: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text, self.path)
        self.lines = self.text.splitlines()
        self.nodes = list(ast.walk(self.tree))  # walked once: the rules read the list
        self.docstrings = {
            id(node.body[0].value)
            for node in self.nodes
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }

    def under(self, *places: str) -> bool:
        return any(self.path == place or self.path.startswith(f"{place}/") for place in places)

    def reasoned(self, line: int) -> bool:
        """A comment that is more than an instruction to a tool stands on `line` or on the line above, which holds nothing else."""
        here = self.lines[line - 1]
        above = self.lines[line - 2].strip() if line > 1 else ""
        return bool(_REASON.search(_AFTER_MARKER.sub(r"\g<rest>", here))) or (above.startswith("#") and bool(_REASON.match(above)))

    def speaks_of_imports(self, start: int, end: int) -> bool:
        """A comment line from `start` to `end` gives one reason for several imports."""
        return any(re.match(r"\s*#.*\bimport", line, re.IGNORECASE) for line in self.lines[start - 1 : end])


Rule = Callable[[Source], Iterator[tuple[int, str]]]


def file_length(source: Source) -> Iterator[tuple[int, str]]:
    if len(source.lines) > FILE_LINES:
        yield FILE_LINES + 1, f"{len(source.lines)} lines; split the file at {FILE_LINES}"


def function_length(source: Source) -> Iterator[tuple[int, str]]:
    if source.under("alembic"):
        return  # a migration is one list of statements
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {length} lines; split it at {FUNCTION_LINES}"


def module_docstring(source: Source) -> Iterator[tuple[int, str]]:
    if source.text.strip() and ast.get_docstring(source.tree) is None:
        yield 1, "say in a docstring of one to four lines what this file decides"


def import_in_function(source: Source) -> Iterator[tuple[int, str]]:
    seen = set()
    if not any(isinstance(node, ast.Import | ast.ImportFrom) and node.col_offset for node in source.nodes):
        return
    if source.under("nexusrag/cli") and "import" in (ast.get_docstring(source.tree) or ""):
        return  # one reason for all commands of the file, where its reader begins
    for function in source.nodes:
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if not isinstance(node, ast.Import | ast.ImportFrom) or node.lineno in seen:
                    continue
                seen.add(node.lineno)
                if not (source.reasoned(node.lineno) or source.speaks_of_imports(function.lineno, node.lineno)):
                    yield node.lineno, "move the import to the top, or give the reason in a comment on or above it"


def environment(source: Source) -> Iterator[tuple[int, str]]:
    if not source.under("nexusrag") or source.under("nexusrag/settings"):
        return
    excusable = source.under("nexusrag/cli", "nexusrag/embedded")
    for node in source.nodes:
        if _reads_environment(node):
            line = getattr(node, "lineno", 1)
            if not excusable:
                yield line, "take the value from Settings; only nexusrag/settings reads the environment"
            elif not source.reasoned(line):
                yield line, "say in a comment why the environment is passed on here"


def _reads_environment(node: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    if isinstance(node, ast.Attribute):
        return node.attr in names and isinstance(node.value, ast.Name) and node.value.id == "os"
    if isinstance(node, ast.ImportFrom):
        return node.module == "dotenv" or (node.module == "os" and any(name.name in names for name in node.names))
    return isinstance(node, ast.Import) and any(name.name == "dotenv" for name in node.names)


def http_exception(source: Source) -> Iterator[tuple[int, str]]:
    if not source.under("nexusrag") or source.under("nexusrag/app.py"):
        return  # the application translates the framework's own
    for node in source.nodes:
        named = isinstance(node, ast.Name) and node.id == "HTTPException"
        imported = isinstance(node, ast.ImportFrom) and any(name.name == "HTTPException" for name in node.names)
        if named or imported or (isinstance(node, ast.Attribute) and node.attr == "HTTPException"):
            yield getattr(node, "lineno", 1), "raise kernel.errors.ApiError with a code of the catalogue"


def commit(source: Source) -> Iterator[tuple[int, str]]:
    if not source.under("nexusrag") or source.under("nexusrag/infra"):
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit":
            yield node.lineno, "leave the commit to the route class or to `async with call.work()`"


def raw_sql(source: Source) -> Iterator[tuple[int, str]]:
    parts = PurePosixPath(source.path).parts
    if not source.under("nexusrag") or source.under("nexusrag/infra") or "repository" in parts or parts[-1] == "repository.py":
        return
    aliases: set[str] = set()
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sqlalchemy":
            aliases |= {name.asname or name.name for name in node.names if name.name == "text"}
    for node in source.nodes:
        if isinstance(node, ast.Call) and (
            (isinstance(node.func, ast.Name) and node.func.id in aliases)
            or (
                isinstance(node.func, ast.Attribute)
                and node.func.attr == "text"
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in {"sa", "sqlalchemy", "sql"}
            )
        ):
            yield node.lineno, "write SQL in repository.py, in infra or in a migration"


def broad_except(source: Source) -> Iterator[tuple[int, str]]:
    if not source.under("nexusrag") or source.under(*LAST_RESORT):
        return
    for node in source.nodes:
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _raises_again(node):
            yield node.lineno, "name the exceptions, or clean up and end the handler with a bare `raise`"
        if isinstance(node, ast.Call) and _name(node.func) == "suppress" and any(_is_broad(argument) for argument in node.args):
            yield node.lineno, "name the exceptions that are suppressed"


def _is_broad(kind: ast.expr | None) -> bool:
    if isinstance(kind, ast.Tuple):
        return any(_is_broad(item) for item in kind.elts)
    return kind is None or _name(kind) in {"Exception", "BaseException"}


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def naive_datetime(source: Source) -> Iterator[tuple[int, str]]:
    for node in source.nodes:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        method, owner = node.func.attr, _name(node.func.value)
        given = len(node.args) + len(node.keywords)
        naive = (
            (method in {"utcnow", "utcfromtimestamp"})
            or (owner == "datetime" and method == "now" and given == 0)
            or (owner == "datetime" and method == "fromtimestamp" and given < 2)
            or (owner in {"datetime", "date"} and method == "today")
        )
        if naive and owner in {"datetime", "date"}:
            yield node.lineno, "use kernel.clock.now(), or pass a time zone"


def session_wide_setting(source: Source) -> Iterator[tuple[int, str]]:
    """A setting that outlives its transaction is met by the next tenant on the same pooled connection."""
    if not source.under("nexusrag", "alembic"):
        return
    for node in source.nodes:
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in source.docstrings:
            if _SESSION_WIDE.search(node.value):
                yield line, "set it for the transaction alone: set_config(…, true)"
        elif isinstance(node, ast.JoinedStr):
            pieces = [str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values]
            whole = "".join(pieces)
            alone = any(_SESSION_WIDE.search(piece) for piece in pieces)  # found above, as a constant
            if _SESSION_WIDE.search(whole) and not alone:
                yield line, "set it for the transaction alone: set_config(…, true)"
        elif isinstance(node, ast.Call) and _name(node.func) == "set_config" and _gives_false(node):
            yield line, "set it for the transaction alone: set_config(…, True)"


def _gives_false(call: ast.Call) -> bool:
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(isinstance(value, ast.Constant) and value.value is False for value in given)


def facade_only(source: Source) -> Iterator[tuple[int, str]]:
    """From another domain only its facade is imported; among what the command line makes, its provision, which stands on the driver alone.

    A module directly in a wing belongs to all domains of that wing.
    """
    if not source.under("nexusrag") or source.under(*ENTRY):
        return
    parts = PurePosixPath(source.path).with_suffix("").parts
    own = _domain(source.root, parts)
    faces = {("facade",), ("provision",)} if parts[-1] == "provision" else {("facade",)}
    shared_by_wing = parts[1] if own is None else None
    for node in source.nodes:
        for module in _imported(node, source.path):
            parts = tuple(module.split("."))
            theirs = _domain(source.root, parts)
            if theirs is None or theirs == own or theirs[1] == shared_by_wing:
                continue
            if parts[3:4] not in faces:
                yield getattr(node, "lineno", 1), f"import {'.'.join(theirs)}.facade instead of {module}"


def _domain(root: Path, parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """`nexusrag.<wing>.<domain>` when `parts` lies in one; a module directly in a wing belongs to the wing as a whole."""
    if len(parts) >= 3 and parts[0] == "nexusrag" and parts[1] in WINGS and root.joinpath(*parts[:3]).is_dir():
        return parts[:3]
    return None


def _imported(node: ast.AST, path: str) -> list[str]:
    """Every module that an import statement may bring in, written out in full."""
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = PurePosixPath(path).parts[: -node.level]
        base = ".".join((*package, base)) if base else ".".join(package)
    # `from nexusrag.x.y import facade` names the module in its second half; deeper names do no harm.
    return [f"{base}.{name.name}" for name in node.names]


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


RULES: dict[str, Rule] = {
    "file-length": file_length,
    "function-length": function_length,
    "module-docstring": module_docstring,
    "import-in-function": import_in_function,
    "environment": environment,
    "http-exception": http_exception,
    "commit": commit,
    "raw-sql": raw_sql,
    "broad-except": broad_except,
    "naive-datetime": naive_datetime,
    "session-wide-setting": session_wide_setting,
    "facade-only": facade_only,
}


def check(root: Path) -> list[Breach]:
    """Every breach in the project at `root`, by file and line."""
    breaches = []
    for folder in ("nexusrag", "alembic", "scripts", "tests"):
        for file in sorted((root / folder).rglob("*.py")):
            path = file.relative_to(root).as_posix()
            try:
                source = Source(root, path, file.read_text())
            except SyntaxError as error:
                breaches.append(Breach(path, error.lineno or 1, "syntax", error.msg))
                continue
            breaches += [Breach(path, line, name, advice) for name, rule in RULES.items() for line, advice in rule(source)]
    return sorted(breaches)


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent
    breaches = check(root.resolve())
    for breach in breaches:
        print(breach)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
