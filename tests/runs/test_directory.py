"""The run directory: what is damaged is said in a sentence, and a write that fails leaves what was there."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import cifrun
from cifrun.errors import RunError
from cifrun.io.files import replacing
from cifrun.runs.directory import Checkpoint, RunDirectory
from cifrun.training.loop import train
from tests.helpers import small_config, unrendered, without_pictures

QUICK = {"max_steps": 4, "batch_size": 50, "valid_every": 2, "plot_every": 0, "progress": False}
EVAL = {"importance_samples": 3, "valid_importance_samples": 2}


def quick(flow="realnvp", cif=True, **overrides):
    return small_config(flow, cif, trainer={**QUICK, **overrides}, eval=EVAL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "finished"
    with unrendered():
        train(quick(), directory)
    return directory


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run, to be damaged."""
    return shutil.copytree(finished, tmp_path / "run")


def test_load_gives_the_trained_model(finished):
    model = cifrun.load(finished)
    x = torch.randn(5, 2)
    assert not model.training
    assert model.log_prob(x, importance_samples=4).shape == model.elbo(x).shape == (5,)
    assert model.sample(7).shape == (7, 2)
    weights = RunDirectory(finished).load_checkpoint("best").part("model")
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_files_of_a_run(finished):
    names = {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()}
    events = {n for n in names if n.startswith("events.out.tfevents")}
    pictures = {n for n in names if n.startswith("figures/")}
    assert events and names - events - pictures == {
        ".lock", "config.yaml", "summary.json", "metrics.jsonl",
        "checkpoints/latest.safetensors", "checkpoints/best.safetensors",
    }  # fmt: skip
    drawn = ("density", "samples", "training", "lipschitz", "bounds", "maps", "index")
    assert pictures == {f"figures/{name}.{ending}" for name in drawn for ending in ("png", "pdf")}
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["status"] == "completed" and summary["steps"] == 4 and summary["flow"] == "realnvp"
    expected = {"log_likelihood", "log_likelihood_se", "elbo", "importance_samples", "bits_per_dim", "kl_to_truth"}
    assert expected | {"bi_lipschitz", "coverage", "mass_off_support"} <= summary["test"].keys()


def test_config_rebuilds_the_model_without_hydra(finished):
    code = f"import sys, cifrun; cifrun.load({str(finished)!r}); sys.exit('hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda d: (d / "config.yaml").unlink(), r"not a run directory: it has no config\.yaml"),
        (lambda d: (d / "config.yaml").write_text("a: [1"), "can't be read as YAML"),
        (lambda d: (d / "config.yaml").write_bytes(b"\xff\xfe\x00"), "can't be read as YAML"),
        (lambda d: (d / "config.yaml").write_text("just words"), "does not hold the configuration of a run"),
        (lambda d: (d / "config.yaml").write_text("flow: {family: maf}"), "does not hold the configuration of a run"),
        (lambda d: (d / "config.yaml").write_text("!!python/object/apply:os.system ['true']"), "can't be read as YAML"),
        (lambda d: [p.unlink() for p in (d / "checkpoints").iterdir()], "no checkpoint 'latest'"),
        (lambda d: truncate(d / "checkpoints/best.safetensors", 0.5), "damaged or not a checkpoint"),
        (lambda d: truncate(d / "checkpoints/best.safetensors", 0), "damaged or not a checkpoint"),
        (lambda d: (d / "checkpoints/best.safetensors").write_bytes(b"hello" * 99), "damaged or not a checkpoint"),
        (lambda d: (d / "checkpoints/best.safetensors").write_bytes(pickle.dumps({})), "damaged or not a checkpoint"),
    ],
)  # fmt: skip
def test_damage_is_one_sentence(run, damage, sentence):
    damage(run)
    with pytest.raises(RunError, match=sentence) as error:
        cifrun.load(run)
    assert "\n" not in str(error.value)


def truncate(path, share):
    os.truncate(path, int(path.stat().st_size * share))


def test_directories_that_are_none(tmp_path):
    with pytest.raises(RunError, match="there is no run directory"):
        cifrun.load(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"not a run directory: it has no config\.yaml"):
        cifrun.load(tmp_path)


def test_weights_of_another_flow_are_refused(run, tmp_path):
    with without_pictures():
        train(quick("maf"), tmp_path / "other")
    for tag in ("best", "latest"):
        target = run / f"checkpoints/{tag}.safetensors"
        target.write_bytes((tmp_path / f"other/checkpoints/{tag}.safetensors").read_bytes())
    with pytest.raises(RunError, match="weights of another model"):
        cifrun.load(run)
    with pytest.raises(RunError, match="weights of another model"):
        train(quick(max_steps=5), run, resume=True)


def test_a_plain_safetensors_file_is_no_checkpoint(run):
    save_file({"a": torch.zeros(2)}, run / "checkpoints/best.safetensors")
    with pytest.raises(RunError, match="damaged or not a checkpoint"):
        cifrun.load(run)


@pytest.mark.parametrize("place", ["/proc/cifrun", "FILE/run"])
def test_a_folder_that_cant_be_written_is_one_sentence(place, tmp_path):
    (tmp_path / "FILE").write_text("")
    directory = tmp_path / place  # an absolute path replaces tmp_path
    with pytest.raises(RunError, match="can't be written") as error:
        train(quick(), directory)
    assert str(directory) in str(error.value) and "\n" not in str(error.value)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(file) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]
    with replacing(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


def test_shared_tensors_are_stored_apart(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    shared = torch.arange(4.0)
    RunDirectory(tmp_path).save_checkpoint("latest", Checkpoint({"a": shared, "b": shared[:2]}, {"step": 1}))
    back = RunDirectory(tmp_path).load_checkpoint("latest")
    assert torch.equal(back.tensors["b"], shared[:2]) and back.state == {"step": 1}


@pytest.mark.parametrize("step", ["true", "1e300", "-3", "1" + "0" * 30, "null", '"4"', "[1]"])
def test_a_row_of_metrics_without_a_step_is_left_out(tmp_path: Path, step: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "a": 2.5, "b": [1]}}\n{{"step": {step}, "a": 1}}\n')
    assert RunDirectory(tmp_path).metrics() == [{"step": 1, "a": 2.5}]


# --- no way out -------------------------------------------------------------------------------------------------------

FILES = ["config.yaml", "summary.json", "metrics.jsonl", "checkpoints/best.safetensors", "checkpoints"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("inside", [False, True], ids=["to a place outside", "to a place inside"])
def test_a_link_is_not_followed(run, name, inside, tmp_path):
    """Neither to read what is outside nor to write there."""
    elsewhere = tmp_path / ("run/moved" if inside else "moved")
    (run / name).rename(elsewhere)
    (run / name).symlink_to(elsewhere)
    before = {file: file.stat().st_mtime_ns for file in [elsewhere, *elsewhere.rglob("*")]}
    reader = RunDirectory(run)
    with pytest.raises(RunError, match=f"{name} is a symbolic link, which is not followed"):
        for use in (reader.config, reader.summary, reader.metrics, lambda: reader.load_checkpoint("best")):
            use()
    if name != FILES[3]:  # which training may never need
        with pytest.raises(RunError, match="symbolic link"):
            train(quick(max_steps=5), run, resume=True)
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.parametrize("name", FILES[:4])
def test_a_pipe_does_not_hang(run, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(RunError, match="neither a file nor a folder"):
        reader = RunDirectory(run)
        for use in (reader.config, reader.summary, reader.metrics, lambda: reader.load_checkpoint("best")):
            use()


def test_a_temporary_file_that_somebody_has_put_there_is_not_written_through(run, tmp_path, monkeypatch):
    monkeypatch.setattr("cifrun.io.files.secrets.token_hex", lambda count: "foreseen")
    (run / ".config.yaml.foreseen.tmp").symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="can't be written"):
        RunDirectory(run).write_config(quick())
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(("name", "size"), [("config.yaml", 2**20), ("summary.json", 2**26)])
def test_a_file_without_end_is_refused(run, name, size):
    with open(run / name, "ab") as stream:
        stream.truncate(size + 1)
    with pytest.raises(RunError, match=f"{name} can't be read"):
        RunDirectory(run).config(), RunDirectory(run).summary()


# --- a run that was killed before it had anything to go on with -------------------------------------------------------


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_that_has_only_its_config_begins_again(resume, tmp_path):
    config = quick()
    RunDirectory(tmp_path).create(config)
    assert RunDirectory(tmp_path).unbegun()
    with unrendered():
        cifrun.train(config, tmp_path, resume=resume)
    assert RunDirectory(tmp_path).summary()["status"] == "completed"


def test_what_is_no_run_or_has_begun_does_not_begin_again(run, tmp_path):
    for name in ("best", "latest"):
        RunDirectory(run).checkpoint_path(name).unlink()
    assert not RunDirectory(run).unbegun(), "it has records"
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.yaml").write_text("site_name: a project of somebody's\n")
    assert not RunDirectory(other).unbegun()
    with pytest.raises(RunError, match="does not hold the configuration of a run: choose another directory"):
        cifrun.train(quick(), other)
    assert (other / "config.yaml").read_text() == "site_name: a project of somebody's\n"


# --- the checkpoint to use --------------------------------------------------------------------------------------------


def test_other_weights_than_the_best_are_not_used_without_a_word(run):
    (run / "checkpoints" / "best.safetensors").unlink()
    with pytest.raises(RunError, match=r"best\.safetensors is missing, with the weights that were best in validation"):
        cifrun.load(run)
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.name != ".lock"}
    with pytest.raises(RunError, match="is missing"):
        train(quick(max_steps=6), run, resume=True)
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_files_have_the_rights_that_the_user_gives_files(finished):
    mask = os.umask(0)
    os.umask(mask)
    files = [file for file in finished.rglob("*") if file.is_file() and file.name != ".lock"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~mask}


def test_what_can_not_be_looked_at_is_not_said_to_be_missing(run, monkeypatch):
    from cifrun.io import files

    def lstat(path, real=files.Path.lstat):
        if path.name == "best.safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(files.Path, "lstat", lstat)
    monkeypatch.setattr(
        "cifrun.runs.checkpoint.safe_open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "no"))
    )
    with pytest.raises(RunError, match=r"best\.safetensors can't be read"):
        cifrun.load(run)


FOREIGN = {
    "empty": "",
    "settings": "debug: true\nname: something else\n",
    "mappings": "dataset: {path: data.csv}\nflow: {name: deploy}\n",
    "more": "dataset: {name: two_moons}\nflow: {family: maf}\nthing: 1\n",
    "no YAML": "a: [1",
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_config_of_another_program_is_not_written_over(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    run = RunDirectory(tmp_path)
    assert not run.unbegun()
    with pytest.raises(RunError, match=r"config\.yaml .*choose another directory"):
        run.check_free()
    with pytest.raises(RunError, match=r"config\.yaml .*choose another directory"):
        cifrun.Flow("affine", dim=2).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file() and path.suffix] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == text


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "checkpoints/latest.safetensors"])
def test_files_of_a_runs_names_without_a_config_are_not_written_over(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    for act in (RunDirectory(tmp_path).check_free, lambda: cifrun.Flow("affine", dim=2).save(tmp_path)):
        with pytest.raises(RunError, match=r"is there, without the config\.yaml of a run: choose another directory"):
            act()
    assert file.read_text() == "mine"


def test_a_model_is_saved_twice_in_one_place(tmp_path: Path) -> None:
    for seed in (0, 1):
        cifrun.Flow("affine", dim=2, seed=seed).save(tmp_path)
