"""`experiment=table` beside a Gaussian and a mixture of Gaussians, on five tables: docs/tables.md.

    python scripts/compare_tables.py --seeds 1 2 3 4 5          # about an hour on two cores

Each seed has a split of its own, the same for all models. The flows are trained through a named sweep, so the same
command goes on after a stop; Gaussian and mixture are those of `eval.references`, fitted to the same split. Numbers are
in nats a row, in the file's units.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cifrun.build import build_data
from cifrun.cli.hydra_app import configure
from cifrun.errors import CifrunError
from cifrun.io.table_files import write_table
from cifrun.io.text import with_error
from cifrun.reporting.groups import Group
from cifrun.reporting.report import Report
from cifrun.reporting.runs import find_runs
from cifrun.reporting.significance import Sample, differ, mean_over_seeds
from cifrun.runs.metrics import BY_NAME

TABLES = ("iris", "wine", "diabetes", "breast_cancer")
#: The name of the larger table, as a report calls it, and its rows.
MIXED, ROWS = "mixed", 90_000
KINDS = {"gaussian": "Gaussian", "mixture": "mixture", "maf": "maf", "CIF of maf": "CIF of maf"}


def mixed(rows: int) -> dict[str, NDArray[np.float64]]:
    """Eight correlated columns: heavy tails, skew, a share between 0 and 1, two groups, a wave and a parabola."""
    random = np.random.default_rng(0)
    factor = random.standard_normal((8, 8))
    covariance = factor @ factor.T + 4 * np.eye(8)
    scale = np.sqrt(np.diag(covariance))
    g = random.standard_normal((rows, 8)) @ np.linalg.cholesky(covariance / scale[:, None] / scale).T
    uniform = stats.norm.cdf(g)
    return {
        "a": stats.t(3).ppf(uniform[:, 0]),
        "b": 20 * stats.t(4).ppf(uniform[:, 1]) + 100,
        "c": np.exp(g[:, 2]),
        "d": np.exp(0.8 * g[:, 3] + 5),
        "share": stats.beta(0.8, 2).ppf(uniform[:, 4]),
        "group": g[:, 5] + np.where(random.random(rows) < 0.3, 4, 0),
        "wave": np.sin(2 * g[:, 0]) + 0.3 * g[:, 6],
        "parabola": 0.5 * g[:, 1] ** 2 + g[:, 7],
    }


def train(output: Path, tables: list[str], seed: int) -> None:
    """The flows of one seed. Raises `CifrunError` if one fails."""
    chosen = {"bundled": f"dataset={','.join(t for t in tables if t != MIXED)}"}
    if MIXED in tables:
        if not (path := output / f"{MIXED}.parquet").exists():
            write_table(path, mixed(ROWS))
        chosen[MIXED] = f"dataset=file dataset.path={path.resolve()}"
    for name, words in chosen.items():
        if words == "dataset=":
            continue
        rest = f"cif=false,true experiment=table seed={seed} dataset.seed={seed} sweep.name=tables-{name} device=cpu"
        quiet = "trainer.progress=false diagnostics.enabled=false"
        command = [sys.executable, "-m", "cifrun", "train", "-m", *f"{words} {rest} {quiet}".split()]
        if code := subprocess.run(command, cwd=output, stdout=subprocess.DEVNULL).returncode:
            raise CifrunError(f"the sweep of {name} ended with exit code {code}")


def row(name: str, groups: list[Group]) -> str:
    """A table's line: what each model comes to, and by how much the CIF is above the mixture."""
    samples: dict[str, Sample | None] = {group.name: group.sample(BY_NAME["log_likelihood"]) for group in groups}
    samples |= {kind: groups[-1].sample(BY_NAME[kind]) for kind in ("gaussian", "mixture")}
    cells = []
    for kind in KINDS:
        sample = samples.get(kind)
        cells.append("–" if sample is None else with_error(sample.mean, sample.error()[0]))
    cif, mixture = samples.get("CIF of maf"), samples["mixture"]
    if cif is not None and mixture is not None and cif.values.keys() == mixture.values.keys():
        difference, error = mean_over_seeds([cif.values[k] - mixture.values[k] for k in cif.values])
        told = with_error(difference, error)
        cells.append(f"**{told}**" if differ(cif, mixture) else told)
    seconds = [f"{group.seconds:.0f}" for group in groups if group.name == "CIF of maf"]
    return f"| {name} | {' | '.join([*cells, *seconds])} |"


def document(output: Path, tables: list[str]) -> str:
    """The table as Markdown."""
    report = Report(*find_runs([output / "multirun"]))
    heads = ["table", "rows × columns", *KINDS.values(), "CIF − mixture", "s"]
    lines = [f"| {' | '.join(heads)} |", f"|---|---|{'---:|' * (len(heads) - 2)}"]
    for table in tables:
        words = [f"dataset={table}"] if table != MIXED else ["dataset=file", f"dataset.path={output / table}.parquet"]
        data = build_data(configure(words))
        size = f"{sum(map(len, (data.train, data.valid, data.test))):,} × {math.prod(data.shape)}".replace(",", " ")
        if groups := [group for group in report.groups if group.dataset == table]:
            lines.append(row(f"{table} | {size}", groups))
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, and write the document."""
    summary, _, _ = (__doc__ or "").partition("\n\nEach")
    parser = argparse.ArgumentParser(description=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="two or more (%(default)s)")
    parser.add_argument("--tables", nargs="+", default=[*TABLES, MIXED], help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/compare_tables"), help="(%(default)s)")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="(%(default)s)")
    arguments = parser.parse_args()
    if len(arguments.seeds) < 2:
        parser.error("an error needs two seeds or more")
    arguments.output.mkdir(parents=True, exist_ok=True)
    try:
        for seed in arguments.seeds:
            train(arguments.output, arguments.tables, seed)
        table = document(arguments.output, arguments.tables)
    except CifrunError as error:
        sys.exit(f"compare_tables: {error}")
    text = DOCUMENT.format(table=table, seeds=len(arguments.seeds))
    (arguments.docs / "tables.md").write_text(text, encoding="utf-8")
    print(text)


DOCUMENT = """\
# Tables: `experiment=table` beside a Gaussian and a mixture

Test log-likelihood in nats a row, in the units of the file, mean ± standard error over {seeds} splits, each with its
own seed; exact but for the CIF, whose numbers are IWAE₁₀₀, a lower bound in expectation. Gaussian and mixture are
scikit-learn's, fitted to the same split; the mixture has the number of components that the validation data like best,
as the flows have the best weights. CIF − mixture is taken split by split; **bold** differs from 0 by Student's t test,
two-sided at 5 %. The splits of a small table overlap, so that its errors are too small rather than too large. s is the
time of a run of the CIF with all that belongs to it, the fit of the mixture too.

{table}

With fewer than 300 rows for training, as of iris and wine, the preset starts the flow from a mixture
(`base=mixture`), which is kept unless training is ahead of it on the validation data by a standard error.

The last table is made by the script: eight correlated columns with heavy tails, skew, a share between 0 and 1, two
groups, a wave and a parabola.

To repeat: `python scripts/compare_tables.py`.
"""

if __name__ == "__main__":
    main()
