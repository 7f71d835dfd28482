#!/usr/bin/env bash
# Installs a lock file into .venv, and the command `nexusrag` that runs this checkout: scripts/install.sh requirements.lock
#
# By uv, itself locked by hash: a fifth of pip's time. pip does it where uv cannot. Nothing is byte-compiled ahead: Python
# does that for what it imports, once. Nothing is built: a .pth file points at this checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=$1
begun=$SECONDS

say() { echo "install: $*" >&2; }

suits() { "$@" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3; do
        if suits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    say "Python 3.11 or 3.12 is needed and was not found. Install one, or name it: make install PYTHON=/path/to/python3.12"
    exit 1
}

make_venv() {
    if suits .venv/bin/python; then return; fi
    local python
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv --without-pip .venv
}

# pip of the system working on .venv takes no time to set up; where the system has none, .venv gets its own.
run_pip() {
    local base
    base=$(.venv/bin/python -c 'import sys; print(sys._base_executable)')
    if "$base" -m pip --python .venv/bin/python --version >/dev/null 2>&1; then
        "$base" -m pip --python .venv/bin/python --quiet --disable-pip-version-check "$@"
    else
        [ -e .venv/bin/pip ] || .venv/bin/python -m ensurepip >/dev/null
        .venv/bin/python -m pip --quiet --disable-pip-version-check "$@"
    fi
}

run_uv() {
    # uv does not read pip's configuration; an index that is set there is meant for us too.
    local index
    index=${PIP_INDEX_URL:-$(run_pip config get global.index-url 2>/dev/null || true)}
    if [ -n "$index" ] && [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX=$index; fi
    if [ -n "${PIP_CERT:-}" ] && [ -z "${SSL_CERT_FILE:-}" ]; then export SSL_CERT_FILE=$PIP_CERT; fi
    [ -x .venv/bin/uv ] || run_pip install --no-deps --require-hashes -r requirements-uv.lock || return
    .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r "$1"
}

# Says that it is alive, a dot every two seconds, while the command given runs.
with_dots() {
    (while sleep 2; do printf . >&2; done) &
    dots=$!
    trap 'kill "$dots" 2>/dev/null' EXIT # also when interrupted: a job in the background ignores Ctrl-C
    local status=0
    "$@" || status=$?
    trap - EXIT
    kill "$dots" 2>/dev/null || true
    wait "$dots" 2>/dev/null || true
    echo >&2
    return "$status"
}

point_at_checkout() {
    .venv/bin/python - "$PWD" <<'END'
"""Writes nexusrag.pth and the command `nexusrag`, whose first lines survive spaces in the path.

The command lets Python keep its compiled files even where the environment forbids it: without them each start compiles
everything anew, for seconds.
"""
import sys
import sysconfig
from pathlib import Path

root = Path(sys.argv[1])
Path(sysconfig.get_path("purelib"), "nexusrag.pth").write_text(f"{root}\n")
command = root / ".venv" / "bin" / "nexusrag"
command.write_text(f"""#!/bin/sh
'''exec' env -u PYTHONDONTWRITEBYTECODE "{root}/.venv/bin/python" "$0" "$@"
' '''
import sys

from nexusrag.cli.main import main

sys.exit(main())
""")
command.chmod(0o755)
END
}

make_venv
say "$(grep -c '==' "$lock") packages from $lock"
if ! with_dots run_uv "$lock"; then
    say "uv could not install them; trying pip, which takes about a minute longer"
    with_dots run_pip install --no-deps --require-hashes --no-compile -r "$lock"
fi
point_at_checkout
say "done in $((SECONDS - begun)) s"
