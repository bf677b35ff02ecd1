"""Write the pages of the documentation that are made from the code: docs/metrics.md, from the table of metrics.

python scripts/make_docs.py            # write what differs, and say which files these are
python scripts/make_docs.py --check    # write nothing; the exit code is 1 if a file differs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from cifrun.runs.metrics import HEADLINE, PICTURES, THEMES, Metric

DOCS = Path(__file__).resolve().parents[1] / "docs"

METRICS = """# The numbers of a run

Made from `cifrun/runs/metrics.yaml` by `python scripts/make_docs.py`: change them there.
[diagnostics.md](diagnostics.md) has the formulas, and how to read the numbers.

A name is a key of `summary.json` under "test". In `metrics.jsonl` and TensorBoard it follows the name of a group:

- `train/`: a batch;
- `valid/`: the validation set;
- `diagnostics/`: the test set, during training;
- `test/`: the test set, with the best weights;
- `best/`: of those the headline numbers again, {headline}.

↑ means that more is better, ↓ that less is. A number marked CIF says something of continuously indexed flows only, one
marked images of images, and one marked targets of data whose density is known.

{themes}

A name that ends in `_se` is the standard error of the number before it. One that ends in `_q999` is what all but one
point in a thousand stay below, where that number is a maximum. `mass of PIECE` is the share of the model's mass that is
in a piece of the target.

## Pictures

They are in `figures/` and in TensorBoard.

{pictures}
"""


def metrics_page() -> str:
    """docs/metrics.md."""
    themes = (
        f"## {theme.name.capitalize()}\n\n{theme.hint}\n\n{_numbers(theme.metrics)}"
        for theme in THEMES
        if theme.metrics
    )
    return METRICS.format(
        headline=", ".join(f"`{name}`" for name in HEADLINE),
        themes="\n\n".join(themes),
        pictures=_table(("name", "what it shows"), ((f"`{name}`", text) for name, text in PICTURES.items())),
    )


#: The pages, and what makes each.
PAGES = {"metrics.md": metrics_page}


def _numbers(metrics: Iterable[Metric]) -> str:
    rows = []
    for metric in metrics:
        marks = [{1: "↑", -1: "↓", 0: ""}[metric.better], metric.of]
        rows.append((f"`{metric.name}`", metric.meaning, metric.unit, " ".join(filter(None, marks))))
    return _table(("name", "what it is", "unit", ""), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file differs")
    check = parser.parse_args().check
    different = 0
    for name, make in PAGES.items():
        file, text = DOCS / name, make()
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            different += 1
            if not check:
                file.write_text(text, encoding="utf-8")
            print(f"docs/{name} {'is not up to date: run scripts/make_docs.py' if check else 'written'}")
    return 1 if check and different else 0


if __name__ == "__main__":
    sys.exit(main())
