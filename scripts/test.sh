#!/usr/bin/env bash
# Runs the checks and the tests from a fresh clone: ./scripts/test.sh [arguments of pytest]
# With arguments, only pytest is run.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/venv.sh"
. "$ROOT/scripts/lib/system-packages.sh"
ensure_venv
ensure_system_packages
cd "$ROOT"
bin="$ROOT/.venv/bin"
if [ $# -eq 0 ]; then
    "$bin/ruff" check .
    "$bin/ruff" format --check .
    "$bin/mypy"
    "$bin/lint-imports"
fi
exec "$bin/python" -m pytest "$@"
