#!/usr/bin/env bash
# Builds the wheel, installs it in an empty environment away from the repository, and trains, evaluates and samples
# there: from the command line and from Python.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup "[test]"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w "$work" .
"${PYTHON:-python3}" -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$work"/cifrun-*.whl
cd "$work"
export PATH="$work/env/bin:$PATH" PYTHONPATH=
case "$(python -c 'import cifrun; print(cifrun.__file__)')" in
"$work"/*) ;;
*) echo "the wheel is not what is imported" >&2 && exit 1 ;;
esac
cifrun train dataset=two_moons flow=maf cif=true debug=tiny device=cpu hydra.run.dir=run
cifrun eval run=run eval.importance_samples=5
cifrun sample run=run n=3 output=samples.csv
cifrun report run >/dev/null
test "$(wc -l <samples.csv)" = 4
python - <<'PYTHON'
import numpy
import cifrun

model = cifrun.CIF("maf", dim=2, depth=2)
x = numpy.random.default_rng(0).normal(size=(100, 2))
cifrun.fit(model, x, steps=3)
assert numpy.isfinite(model.log_prob(x, importance_samples=5, seed=0)).all()
assert cifrun.load("run").sample(3).shape == (3, 2)
assert numpy.isfinite(cifrun.sklearn.FlowDensity(steps=3).fit(x).score(x))
PYTHON
echo "the wheel works in an empty environment"
