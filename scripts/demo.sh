#!/usr/bin/env bash
# Trains the main job, a continuously indexed residual flow on two moons, in about two minutes on two CPU cores; prints
# its test log-likelihood and where the pictures are. Overrides may follow: bash scripts/demo.sh dataset=checkerboard
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup ""
exec .venv/bin/cifrun train dataset=two_moons flow=resflow cif=true trainer.max_steps=600 eval.importance_samples=20 "$@"
