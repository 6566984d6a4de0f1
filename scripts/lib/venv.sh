# Sourced by demo.sh and test.sh: keeps one virtual environment at .venv in the repository
# root, and installs into it only what changed since the last time. Speaks on standard error,
# so that what the command prints stays clean.

say() { printf '%s\n' "$*" >&2; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    say "Constellation needs Python 3.11 or newer; none was found (set PYTHON to name one)."
    return 1
}

# What the environment is made from; when it changes, the environment is brought up to date.
fingerprint() {
    cat "$ROOT"/pyproject.toml "$ROOT"/plugins/*/pyproject.toml \
        "$ROOT"/constraints.txt "$ROOT"/requirements-dev.txt | cksum
    printf '%s\n' "$ROOT"
}

ensure_venv() {
    local venv="$ROOT/.venv" python stamp editable plugin
    stamp="$venv/constellation.stamp"
    # One installation at a time: two scripts started together would break each other's.
    exec 9>"$ROOT/.venv.lock"
    if command -v flock >/dev/null 2>&1; then flock 9; fi
    if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ]; then
        exec 9>&-
        return 0
    fi
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        python=$(find_python) || return 1
        say "Making .venv with $("$python" --version) ..."
        if ! "$python" -m venv --clear "$venv" >&2; then
            say "Python's venv module failed. On Debian or Ubuntu: apt-get install python3-venv"
            return 1
        fi
    fi
    say "Installing Constellation, its plugins and what the tests need (once; about a minute) ..."
    editable=(-e "$ROOT")
    for plugin in "$ROOT"/plugins/*/pyproject.toml; do
        editable+=(-e "${plugin%/pyproject.toml}")
    done
    # hatchling first, so that it builds all distributions without a download for each; and
    # setuptools, which Python 3.12 and later lack, since PySyncObj comes as source only.
    "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check \
        -c "$ROOT/constraints.txt" hatchling editables setuptools >&2 || return 1
    "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-build-isolation \
        -c "$ROOT/constraints.txt" -r "$ROOT/requirements-dev.txt" "${editable[@]}" >&2 || return 1
    fingerprint >"$stamp"
    exec 9>&-
}
