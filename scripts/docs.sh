#!/usr/bin/env bash
# Builds the site of docs/ into site/, and fails at a page, link or anchor that is not there. site/index.html opens it.
# Arguments go to mkdocs build; after the first call, .venv/bin/mkdocs serve shows pages while they are written.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup "[docs]"
# An environment with the test extras counts as set up, and may lack these.
.venv/bin/python -c 'import material, mkdocstrings_handlers.python' 2>/dev/null ||
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
export NO_MKDOCS_2_WARNING=1
exec .venv/bin/mkdocs build --strict --quiet "$@"
