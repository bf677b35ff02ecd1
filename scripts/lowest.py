"""Print the lowest versions that pyproject.toml allows, a line a package, as constraints for pip.

python scripts/lowest.py > lowest.txt
"""

from __future__ import annotations

import re
from pathlib import Path

from pip._vendor import tomli  # every environment has it, also of Python 3.10

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
#: The extras whose lower bounds count too.
EXTRAS = ("tables", "optuna", "joblib", "submitit", "soap", "ray", "docs", "test")


def lowest() -> list[str]:
    """`name==version` for each requirement with a lower bound."""
    project = tomli.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = (word for extra in EXTRAS for word in project["optional-dependencies"][extra])
    found = (re.match(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)$", word) for word in [*project["dependencies"], *extras])
    return sorted({f"{match[1]}=={match[2]}" for match in found if match})


if __name__ == "__main__":
    print("\n".join(lowest()))
