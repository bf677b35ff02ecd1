# Sourced by the other scripts: goes to the repository's root, and makes .venv with the package and, for `test`, its
# test extras. Runs again only when a requirement has changed. PYTHON=python3.12 picks another interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

setup() {
    local extras="$1" python="${PYTHON:-python3}" stamp
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
        echo "cifrun needs Python 3.10 or newer: set PYTHON to one" >&2
        exit 2
    }
    stamp="$(cat pyproject.toml constraints.txt | cksum) $extras $("$python" -c 'import sys; print(sys.version)')"
    if [ ! -x .venv/bin/cifrun ] || { [ "$(cat .venv/stamp 2>/dev/null)" != "$stamp" ] &&
        [ "$(cat .venv/stamp 2>/dev/null)" != "${stamp/ $extras / [test] }" ]; }; then
        echo "setting up .venv …"
        [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null || "$python" -m venv --clear .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".$extras"
        echo "$stamp" >.venv/stamp
    fi
}
