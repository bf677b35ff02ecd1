"""Sets of images: where their files are, their sizes, downloads, and pixels that are 0 or 1."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from cifrun.cli.main import main
from cifrun.config.schema import check
from cifrun.data.images.base import Images
from cifrun.errors import ConfigError
from cifrun.registry import DATASETS

from ..archive import serving
from ..image_archive import NAMES, SIZES, cifar_archive, images, load, put


def test_published_sizes_are_what_is_checked(tmp_path: Path) -> None:
    sizes = {"mnist": (60_000, 10_000), "cifar10": (50_000, 10_000), "svhn": (73_257, 26_032)}
    assert {name: DATASETS[name].published for name in NAMES} == {**sizes, "fashion_mnist": sizes["mnist"]}
    put("mnist", tmp_path)
    with pytest.raises(ConfigError, match=r"'mnist' has 20 \+ 10 images .* published are 60,000 \+ 10,000"):
        load("mnist", root=tmp_path)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"there is no .*: cifrun data fetch {name} downloads it, or dataset.root=DIR"
    ):
        load(name, root=tmp_path)


@pytest.mark.usefixtures("small")
def test_where_files_are_without_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFRUN_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(DATASETS["fashion_mnist"], "system", (tmp_path / "system",))
    put("fashion_mnist", tmp_path / "system")
    put("mnist", tmp_path / "cache" / "mnist")
    assert torch.equal(load("fashion_mnist").test, torch.from_numpy(images("fashion_mnist")[1]))
    assert torch.equal(load("mnist").test, torch.from_numpy(images("mnist")[1]))


DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_fashion_mnist() -> None:
    data = load("fashion_mnist", root=DEBIAN)
    assert (len(data.train), len(data.valid), len(data.test), data.shape) == (54_000, 6_000, 10_000, (1, 28, 28))
    mean, std = data.moments
    assert mean.item() / 255 == pytest.approx(0.286, abs=1e-3)  # as is well known
    assert std.item() / 255 == pytest.approx(0.353, abs=1e-3)


def test_bundled_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    assert data.shape == (1, 8, 8) and data.levels == 17
    assert (len(data.train), len(data.valid), len(data.test)) == (1439, 179, 179)
    whole = load_digits().images
    together = torch.cat([data.train, data.valid, data.test])
    assert together.double().sum().item() == whole.sum() and int(together.max()) == 16
    assert np.array_equal(data.test[:, 0], whole[9::10]) and np.array_equal(data.valid[:, 0], whole[8::10])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["mnist", "svhn"])
def test_fetch_downloads_file_by_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server has the same content for each."""
    put(name, tmp_path / "there")
    content = (tmp_path / "there" / DATASETS[name].files[0]).read_bytes()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(DATASETS[name], "published", (20, 20))
    with serving(content) as server:
        settings = {
            "root": str(tmp_path / "new"),
            "url": server.url.rpartition("/")[0],
            "md5": dict.fromkeys(DATASETS[name].files, md5),
        }
        check(DATASETS[name], {"name": name, **settings}).fetch()
        assert server.paths == [f"/files/{file}" for file in DATASETS[name].files]
        check(DATASETS[name], {"name": name, **settings}).fetch()
        assert len(server.asked) == 2
    out = capsys.readouterr().out
    assert f"{name} → {tmp_path / 'new' / name}" in out and f"{name} is there already" in out
    assert len(load(name, root=tmp_path / "new").test) == 20
    with pytest.raises(ConfigError, match=r"dataset.md5 has no checksum of"):
        check(DATASETS[name], {"name": name, **settings, "root": str(tmp_path / "newer"), "md5": {}}).fetch()


@pytest.mark.usefixtures("small")
def test_fetch_takes_cifar_out_of_its_archive(tmp_path: Path) -> None:
    content = cifar_archive()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    with serving(content) as server:
        words = [f"dataset.root={tmp_path}", f"dataset.url={server.url}", f"dataset.md5={md5}"]
        assert main(["data", "fetch", "cifar10", *words]) == 0
    assert torch.equal(load("cifar10", root=tmp_path).test, torch.from_numpy(images("cifar10")[1]))


def test_digits_need_no_download(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", "digits"]) == 2
    assert "'digits' has nothing to download" in capsys.readouterr().err


def test_binarised_pixels_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS["mnist"], "published", SIZES["mnist"])
    put("mnist", tmp_path)
    grey, one, two = (load("mnist", root=tmp_path, binarize=b) for b in (False, True, True))
    assert one.binary and one.levels == 2 and one.train.dtype == torch.bool
    assert torch.equal(one.train, two.train) and torch.equal(one.test, two.test)
    assert torch.equal(load("mnist", root=tmp_path, binarize=True, num_train=5).train, one.train[:5])
    share = grey.train.float() / 255
    assert not one.train[share == 0].any() and one.train[share == 1].all()
    # 14 112 pixels: within 5 standard errors but once in 10⁶.
    bound = 5 * (share * (1 - share)).sum().sqrt().item()
    assert one.train.sum().item() == pytest.approx(share.sum().item(), abs=bound)


def test_every_dataset_of_images_is_listed_with_what_it_holds() -> None:
    names = [name for name in DATASETS if issubclass(DATASETS[name], Images)]
    assert set(names) >= {"mnist", "fashion_mnist", "cifar10", "svhn", "digits"}
    assert all("pixels" in DATASETS.describe()[name] for name in names)
