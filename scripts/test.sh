#!/usr/bin/env bash
# Runs the checks and the tests from a fresh clone: ./scripts/test.sh [arguments of pytest]
# With arguments, only pytest is run.
# Without, the tests that mostly wait run beside each other first; in the rest, some measure, or
# change what is installed.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/venv.sh"
. "$ROOT/scripts/lib/system-packages.sh"
ensure_venv
ensure_system_packages
cd "$ROOT"
bin="$ROOT/.venv/bin"
if [ $# -gt 0 ]; then
    exec "$bin/python" -m pytest "$@"
fi
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
"$bin/lint-imports"
waiting=(
    tests/chaos
    tests/conformance
    tests/integration/test_consensus_conformance.py
    plugins/constellation-plugin-etcd
)
status=0
"$bin/python" -m pytest -n 3 --dist worksteal "${waiting[@]}" || status=1
"$bin/python" -m pytest "${waiting[@]/#/--ignore=}" || status=1
exit $status
