#!/usr/bin/env bash
# The core of the suite with the lowest versions that pyproject.toml allows, in an environment of its own,
# .venv-lowest. PYTHON=python3.10 picks the interpreter. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
python="${PYTHON:-python3}"
lowest="$(mktemp)"
trap 'rm -f "$lowest"' EXIT
"$python" scripts/lowest.py >"$lowest"
stamp="$(cksum <"$lowest") $("$python" -c 'import sys; print(sys.version)')"
if [ "$(cat .venv-lowest/stamp 2>/dev/null)" != "$stamp" ]; then
    echo "setting up .venv-lowest …"
    "$python" -m venv --clear .venv-lowest
    .venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -c "$lowest" \
        -e ".[tables,docs,soap]" pytest pytest-xdist hypothesis
    echo "$stamp" >.venv-lowest/stamp
fi
# The site; then what computes, what is read and written, training, and the Python face. Sweeps take minutes: for these,
# install optuna, joblib, submitit and ray with the same constraints, and run tests/cli/test_launchers.py and test_sweep.py.
NO_MKDOCS_2_WARNING=1 .venv-lowest/bin/python -m mkdocs build --quiet --strict --site-dir "$PWD/.venv-lowest/site"
OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n "${TEST_PROCESSES:-2}" -m "not slow and not gpu" \
    tests/api tests/cif tests/config tests/data/tables tests/evaluation tests/io tests/optimizers tests/runs tests/training \
    tests/test_sklearn.py "$@"
