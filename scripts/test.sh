#!/usr/bin/env bash
# Lint, types, tests, the site and the wheel, as CI runs them. With arguments it stops after the tests, and pytest takes
# them: bash scripts/test.sh -k resume; -m slow for slow ones.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup "[test]"
export PATH="$PWD/.venv/bin:$PATH"
ruff check .
ruff format --check .
mypy
# One thread a process: two test processes on two cores, and no more threads than cores. A process that has done its half
# takes over tests of the other's, so that neighbours, which share their set-up, stay together as long as they can.
OMP_NUM_THREADS=1 pytest -n "${TEST_PROCESSES:-2}" --dist worksteal -m "not slow and not gpu" "$@"
if [ $# -eq 0 ]; then
    bash scripts/docs.sh
    bash scripts/check_wheel.sh
fi
