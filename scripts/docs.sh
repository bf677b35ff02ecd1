#!/usr/bin/env bash
# Builds the site of docs/ into site/, and fails at a page, link or anchor that is not there. site/index.html opens it.
# Arguments go to mkdocs build; after the first call, .venv/bin/mkdocs serve shows pages while they are written.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup "[docs]"
export NO_MKDOCS_2_WARNING=1
exec .venv/bin/python -m mkdocs build --strict "$@"
