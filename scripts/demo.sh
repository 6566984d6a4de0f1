#!/usr/bin/env bash
# Starts the demo from a fresh clone: ./scripts/demo.sh [arguments of `constellation demo`]
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/scripts/lib/venv.sh"
ensure_venv
exec "$ROOT/.venv/bin/constellation" demo "$@"
