"""The estimator of scikit-learn: its own checks, pipelines, searches, data frames, and the density that it gives."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from joblib import parallel_backend
from scipy.stats import norm
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from cifrun.errors import DataWarning
from cifrun.sklearn import FlowDensity

QUICK: dict[str, Any] = {"steps": 2, "batch_size": 50, "importance_samples": 3}
SMALL = {"depth": 1, "hidden": [8]}


@parametrize_with_checks(
    [
        FlowDensity(flow="maf", cif=True, settings=SMALL, **QUICK),
        FlowDensity(flow="maf", cif=False, settings=SMALL, **QUICK),
    ]
)
def test_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal([5.0, -3.0], [2.0, 0.1], size=(400, 2))


def test_it_learns_a_density(rows: np.ndarray) -> None:
    density = FlowDensity(cif=False, settings={"hidden": [16]}, steps=100, lr=1e-2, random_state=0).fit(rows)
    truth = norm([5.0, -3.0], [2.0, 0.1]).logpdf(rows).sum(1)
    scores = density.score_samples(rows)
    assert scores.shape == (400,) and scores.dtype == np.float64
    assert abs(scores.mean() - truth.mean()) < 0.15
    assert density.score(rows) == pytest.approx(scores.mean())
    draws = density.sample(2000, random_state=1)
    assert draws.shape == (2000, 2)
    # Five standard errors of the mean, beside what training leaves.
    assert np.abs(draws.mean(0) - rows.mean(0)).max() < 0.2 + 5 * 2.0 / 2000**0.5


def test_the_same_random_state_gives_the_same(rows: np.ndarray) -> None:
    make = FlowDensity(settings=SMALL, random_state=3, **QUICK)
    one, two = make.fit(rows), clone(make).fit(rows)
    assert one is make
    np.testing.assert_array_equal(one.score_samples(rows), two.score_samples(rows))
    np.testing.assert_array_equal(one.sample(5, random_state=0), two.sample(5, random_state=0))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).score_samples(rows), one.score_samples(rows))


def test_a_row_has_its_number_whatever_stands_beside_it(rows: np.ndarray) -> None:
    """Also of a flow whose log-determinant is estimated, and across blocks of rows."""
    wide = np.random.default_rng(1).normal(size=(1100, 9))
    density = FlowDensity(flow="resflow", settings={"depth": 1, "hidden": [8]}, **QUICK).fit(wide[:60])
    scores = density.score_samples(wide)
    assert not density.model_.exact
    np.testing.assert_allclose(density.score_samples(wide[1050:1051]), scores[1050:1051], rtol=1e-12)
    np.testing.assert_allclose(density.score_samples(wide[::-1]), scores[::-1], rtol=1e-12)


def test_in_a_pipeline_with_cross_validation_and_a_search(rows: np.ndarray) -> None:
    pipeline = make_pipeline(StandardScaler(), FlowDensity(flow="realnvp", settings=SMALL, random_state=0, **QUICK))
    assert cross_val_score(pipeline, rows, cv=3).shape == (3,)
    grid = {"flowdensity__cif": [False, True], "flowdensity__lr": [1e-3, 1e-2]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(rows)
    assert search.best_params_.keys() == grid.keys()
    assert search.score_samples(rows).shape == (400,)


def test_threads_do_not_disturb_each_other(rows: np.ndarray) -> None:
    density = FlowDensity(settings=SMALL, random_state=0, **QUICK).fit(rows)
    expected = density.score_samples(rows)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: density.score_samples(rows[: 100 * (1 + k % 4)]), range(8)))
    for k, scores in enumerate(found):
        np.testing.assert_allclose(scores, expected[: 100 * (1 + k % 4)], rtol=1e-10)
    with parallel_backend("threading", n_jobs=2):
        assert cross_val_score(density, rows, cv=2).shape == (2,)


def test_columns_have_their_names(rows: np.ndarray) -> None:
    frame = pytest.importorskip("pandas").DataFrame(rows, columns=["a", "b"])
    density = FlowDensity(settings=SMALL, **QUICK).fit(frame)
    assert density.model_.columns == ("a", "b")
    assert density.score_samples(frame).shape == (400,)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"flow": "mfa"}, "did you mean 'maf'"),
        ({"steps": 0}, "steps = 0 is not allowed"),
        ({"settings": {"dpth": 3}}, "did you mean"),
        ({"valid": 2.0}, "valid = 2.0 is not allowed"),
        ({"cif": "no"}, "cif = 'no' is not allowed"),
        ({"importance_samples": 0}, "importance_samples = 0 is not allowed"),
    ],
)
def test_a_mistake_is_a_sentence(parameters: dict[str, Any], sentence: str, rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match=sentence):
        FlowDensity(**{**QUICK, **parameters}).fit(rows)


def test_what_is_wrong_with_the_rows_is_a_warning(rows: np.ndarray) -> None:
    with pytest.warns(DataWarning, match="linear functions of other columns: column 3 of 3") as told:
        FlowDensity(settings=SMALL, **QUICK).fit(np.column_stack([rows, rows[:, 0] - rows[:, 1]]))
    assert [warning.filename for warning in told] == [__file__]


def test_a_constant_column_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="is constant"):
        FlowDensity(**QUICK).fit(np.stack([np.arange(20.0), np.ones(20)], 1))
