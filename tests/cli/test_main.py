"""The front door: what arrives behind a verb, where runs go, and one sentence for every mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from cifrun.cli import hydra_app as compose
from cifrun.cli.config_groups import groups
from cifrun.cli.main import VERBS, main
from cifrun.config.schema import Config, to_dict
from cifrun.errors import TrainingError

ROOT = Path(__file__).resolve().parents[2]
Call = tuple[str, Path, Config]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test starts in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return tmp_path


def write_run(config: Config, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(to_dict(config)), encoding="utf-8")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What the verbs were called with; training leaves a `config.yaml`, and nothing else happens."""
    made: list[Call] = []

    def module(name: str, **functions: Callable[..., Any]) -> None:
        fake = ModuleType(f"cifrun.{name}")
        vars(fake).update(functions)
        monkeypatch.setitem(sys.modules, f"cifrun.{name}", fake)

    def train(config: Config, directory: Path, resume: bool = False) -> dict[str, Any]:
        made.append(("resume" if resume else "train", directory, config))
        if config.optimizer.lr == 13:
            raise TrainingError("the loss was not finite")
        if not resume:
            write_run(config, directory)
        return {"best_valid_log_likelihood": -1.5}

    module("training.loop", train=train)
    module("evaluation.evaluate", evaluate=lambda directory, config: made.append(("eval", directory, config)))
    module("evaluation.sample", sample=lambda directory, config: made.append(("sample", directory, config)))
    return made


@pytest.fixture
def run(calls: list[Call], tmp_path: Path) -> Path:
    """A run that is unlike the defaults in every group."""
    data = {
        "dataset": {"name": "rings", "num_test": 50},
        "flow": {"family": "maf", "depth": 3},
        "cif": False,
        "optimizer": {"name": "sgd"},
        "trainer": {"max_steps": 3},
        "eval": {"chunk_size": 77},
        "device": {"accelerator": "cpu"},
        "seed": 5,
        "n": 9,
    }
    write_run(Config.parse(data), tmp_path / "a run")
    return tmp_path / "a run"


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_help_shows_verbs_groups_and_examples(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    text, err = capsys.readouterr()
    assert err == ""
    for word in [*VERBS, *groups(), "two_moons", "resflow", "two_d_maf", "cifrun train dataset=two_moons"]:
        assert word in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"cifrun {verb}" in capsys.readouterr().out


def test_help_imports_neither_torch_nor_hydra() -> None:
    code = (
        "import sys, cifrun.cli.main as c; c.main(['--help']); c.main(['train', '-h']); "
        "sys.exit(bool({'torch', 'hydra', 'omegaconf', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    described = {line[0] for line in lines if len(line) == 2}
    assert {*groups()["dataset"], *groups()["flow"]} <= described


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("cifrun ")


# --- train ------------------------------------------------------------------------------------------------------------


def test_overrides_arrive(calls: list[Call], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=two_uniforms", "flow=maf", "cif=false", "flow.depth=4", "index.dim=2", "objective=iwae"]
    assert main(["train", *words, "optimizer=adamw", "device=cpu", "trainer.max_steps=9", "seed=3"]) == 0
    (verb, directory, config) = calls[0]
    assert verb == "train"
    assert (config.dataset.name, config.flow.family, config.flow.depth) == ("two_uniforms", "maf", 4)
    assert (config.cif, config.index.dim, config.seed) == (False, 2, 3)
    assert (config.objective.name, config.objective.importance_samples) == ("iwae", 10)
    assert (config.optimizer.name, config.device.accelerator, config.trainer.max_steps) == ("adamw", "cpu", 9)
    assert directory.is_absolute()
    assert capsys.readouterr() == ("", "")


def test_run_directory_holds_what_the_trainer_writes_and_nothing_else(calls: list[Call], tmp_path: Path) -> None:
    assert main(["train"]) == 0
    directory = calls[0][1]
    assert tree(directory) == ["config.yaml"]
    assert directory.parent.parent == tmp_path / "outputs"


def test_runs_of_the_same_second_do_not_share_a_directory(calls: list[Call]) -> None:
    for _ in range(3):
        assert main(["train"]) == 0
    assert len({directory for _, directory, _ in calls}) == 3


def test_reserving_is_atomic(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(compose._reserve, [tmp_path / "day" / "time"] * 16))
    assert len(set(made)) == 16
    compose._release()
    assert tree(tmp_path) == []


def test_verb_and_options_go_anywhere(calls: list[Call]) -> None:
    assert main(["-m", "train", "seed=1,2", "--config-dir", ".", "flow=maf"]) == 0
    assert [config.seed for _, _, config in calls] == [1, 2]
    assert main(["train", "seed=1,2", "-m", "flow=maf"]) == 0
    assert [config.flow.family for _, _, config in calls] == ["maf"] * 4


def test_the_process_looks_as_typed_while_a_job_runs(calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["/bin/cifrun", "train", "flow=maf"]
    monkeypatch.setattr(sys, "argv", argv)
    seen: list[Any] = []
    monkeypatch.setattr(compose, "_score", lambda _: seen.append((sys.argv, os.environ.get("HYDRA_FULL_ERROR"))))
    assert main() == 0
    assert seen == [(argv, None)]
    assert sys.argv is argv
    assert "HYDRA_FULL_ERROR" not in os.environ


# --- multirun ---------------------------------------------------------------------------------------------------------


def test_multirun_names_each_job_by_its_overrides(calls: list[Call], tmp_path: Path) -> None:
    assert main(["train", "-m", "dataset=rings,two_moons", "cif=true,false", "flow.hidden=[8,8]", "flow=maf"]) == 0
    names = [directory.name for _, directory, _ in calls]
    assert len(set(names)) == 4
    assert names[0] == "cif=true--dataset=rings--flow.hidden=8-8--flow=maf"
    assert {directory.parent for _, directory, _ in calls} == {calls[0][1].parent}
    assert calls[0][1].parent.parent.parent == tmp_path / "multirun"


def test_multirun_twice_and_the_same_job_twice(calls: list[Call]) -> None:
    for _ in range(2):
        assert main(["train", "-m", "seed=1,1"]) == 0
    assert len({directory for _, directory, _ in calls}) == 4


def test_names_of_jobs_are_short_and_differ(tmp_path: Path) -> None:
    long = ",".join(f"flow.key{k}=/some/value" for k in range(40))
    sweep = os.path.relpath(tmp_path / "sweep")
    names = [compose._job(None, sweep, long + suffix) for suffix in ("=1", "=2", "=2")]
    assert len(set(names)) == 3
    assert all(len(str(tmp_path / "sweep" / name)) < 200 and "/" not in name for name in names)
    compose._release()


def test_a_failing_job_leaves_the_others_alone(calls: list[Call], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "flow=maf", "trainer.max_steps=1,0,2", "hydra.sweep.dir=sweep"]) == 2
    assert [config.trainer.max_steps for _, _, config in calls] == [1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("cifrun: ")]
    assert line.startswith("cifrun: flow=maf trainer.max_steps=0: trainer.max_steps = 0 is not allowed")
    assert "Error executing" not in err
    done = ["flow=maf--trainer.max_steps=1", "flow=maf--trainer.max_steps=2", "multirun.yaml"]
    assert sorted(os.listdir("sweep")) == done


def test_a_multirun_that_can_not_be_composed_starts_no_job(calls: list[Call], tmp_path: Path) -> None:
    assert main(["train", "-m", "dataset=two_moons,two_moon"]) == 2
    assert calls == []
    assert tree(tmp_path) == []


# --- eval, sample, show, resume ---------------------------------------------------------------------------------------


def test_eval_changes_only_what_was_typed(calls: list[Call], run: Path) -> None:
    saved = Config.load(run / "config.yaml")
    assert main(["eval", f"run={run}", "eval.importance_samples=7", "seed=8"]) == 0
    (verb, directory, config) = calls[0]
    assert (verb, directory, config.run) == ("eval", run, run)
    assert (config.eval.importance_samples, config.eval.chunk_size, config.seed) == (7, 77, 8)
    assert (config.flow, config.dataset, config.device) == (saved.flow, saved.dataset, saved.device)
    assert (config.cif, config.optimizer) == (False, saved.optimizer)


def test_a_group_is_taken_whole(calls: list[Call], run: Path) -> None:
    assert main(["eval", f"run={run}", "eval=default", "device=auto", "device.precision=fp64"]) == 0
    config = calls[0][2]
    assert config.eval.chunk_size == "auto"
    assert (config.device.accelerator, config.device.precision) == ("auto", "fp64")


def test_eval_takes_other_data_and_a_place_for_scores(calls: list[Call], run: Path) -> None:
    assert main(["eval", f"run={run}", "data=a, b.csv", "per_point=x=1.csv"]) == 0
    assert main(["eval", f"run={run}"]) == 0
    first, second = (config for _, _, config in calls)
    assert (first.data, first.per_point) == (Path("a, b.csv"), Path("x=1.csv"))
    assert (second.data, second.per_point) == (None, None)


def test_sample_takes_number_output_and_seed(calls: list[Call], run: Path) -> None:
    assert main(["sample", f"run={run}", "n=50", "output=x.npy", "seed=6"]) == 0
    assert main(["sample", f"run={run}"]) == 0
    first, second = (config for _, _, config in calls)
    assert (first.n, first.output, first.seed, first.flow.depth) == (50, Path("x.npy"), 6, 3)
    assert (second.n, second.output, second.seed) == (1000, None, 5)


def test_resume_trains_in_the_directory_itself(calls: list[Call], run: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    assert main(["train", f"resume={os.path.relpath(run)}", "trainer.max_steps=7"]) == 0
    (verb, directory, config) = calls[0]
    assert (verb, directory) == ("resume", run)
    assert (config.trainer.max_steps, config.flow.family, config.seed) == (7, "maf", 5)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["a=b, (1)", "it's", "back\\", "#x y", "dataset=rings--seed=1"])
def test_paths_need_no_quoting_for_hydra(name: str, calls: list[Call], run: Path, tmp_path: Path) -> None:
    moved = run.rename(tmp_path / name)
    assert main(["eval", f"run={moved}"]) == 0
    assert calls[0][1] == moved


def test_several_runs_are_evaluated_one_after_another(calls: list[Call], run: Path, tmp_path: Path) -> None:
    write_run(Config.load(run / "config.yaml"), tmp_path / "flow=maf--seed=2")
    before = tree(tmp_path)
    assert main(["eval", "-m", f"run={run},flow=maf--seed=2"]) == 0
    assert [directory.name for _, directory, _ in calls] == ["a run", "flow=maf--seed=2"]
    assert tree(tmp_path) == before


def test_eval_sample_show_and_printing_a_config_make_no_files(calls: list[Call], run: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    for words in (["eval", f"run={run}"], ["sample", f"run={run}"], ["show", "flow=maf", "flow.depth=1"]):
        assert main(words) == 0
    for words in (["train", "--cfg", "all", "--resolve"], ["--info", "config"], ["--cfg", "hydra", "--resolve"]):
        assert main(words) == 0
    assert tree(tmp_path) == before


def test_cfg_prints_the_composed_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "job", "--resolve", "experiment=two_d_maf", "cif=false"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert Config.parse(yaml.safe_load(out)).flow.depth == 20


# --- mistakes, one by one ---------------------------------------------------------------------------------------------

BAD = [
    # verbs and options
    (["trian"], ["'trian'", "train, eval, sample, report, show, list", "did you mean 'train'?"]),
    (["dataset=rings"], ["no verb", "cifrun VERB dataset=rings"]),
    (["train", "--multirn"], ["--multirn"]),
    (["train", "--cfg", "jobs"], ["--cfg", "'jobs'", "job"]),
    (["train", "--cfg", "job", "--info"], ["Only one of"]),
    (["train", "-cd", "nowhere"], ["nowhere", "not found"]),
    (["list", "flows"], ["'flows'"]),
    # names
    (["train", "dataset=two_moon"], ["no dataset 'two_moon'", "two_uniforms", "did you mean 'two_moons'?"]),
    (["train", "flow=resflo"], ["no flow 'resflo'", "realnvp", "did you mean 'resflow'?"]),
    (["train", "device=tpu"], ["no device 'tpu'", "auto, cpu, gpu"]),
    (["train", "experiment=two_d_maff"], ["'two_d_maff'", "did you mean 'two_d_maf'?"]),
    (["train", "objective.name=elbow"], ["no objective 'elbow'", "iwae", "did you mean 'elbo'?"]),
    (["train", "flow.family=rosflow"], ["no flow 'rosflow'", "did you mean 'resflow'?"]),
    (["train", "-m", "flow=maf,mav"], ["no flow 'mav'", "did you mean 'maf'?"]),
    # keys
    (["train", "flow.dept=3"], ["no key 'flow.dept'", "allowed in flow", "did you mean 'flow.depth'?"]),
    (["train", "trainer.max_step=5"], ["'trainer.max_step'", "did you mean 'trainer.max_steps'?"]),
    (["train", "max_steps=5"], ["no key 'max_steps'", "did you mean 'trainer.max_steps'?"]),
    (["train", "trainr.max_steps=5"], ["no key 'trainr'", "did you mean 'trainer'?"]),
    (["train", "fow=resflow"], ["no key 'fow'", "did you mean 'flow'?"]),
    (["train", "flow.depth.x=1"], ["no key 'flow.depth.x'"]),
    (["train", "+trainer.steps=5"], ["no key 'trainer.steps'", "did you mean 'trainer.max_steps'?"]),
    (["train", "+flow.dept=5"], ["no key 'flow.dept'", "did you mean 'flow.depth'?"]),
    (["train", "hydra.rundir=x"], ["no key 'hydra.rundir'", "did you mean 'hydra.run'?"]),
    (["train", "~flow"], ["'flow'", "missing"]),
    (["train", "~debug"], ["'debug'", "missing"]),
    (["train", "~trainer.steps"], ["'trainer.steps'", "does not exist"]),
    # types and ranges
    (["train", "cif=maybe"], ["cif = 'maybe'", "true or false"]),
    (["train", "experiment=two_d_maf", "cif=maybe"], ["'maybe'", "true or false"]),
    (["train", "seed=1.5"], ["seed = 1.5", "integer"]),
    (["train", "seed=-1"], ["seed = -1", "greater than or equal to 0"]),
    (["train", "flow.depth=0"], ["flow.depth = 0", "greater than or equal to 1"]),
    (["train", "flow.hidden=[a]"], ["flow.hidden = 'a'", "integer"]),
    (["train", "optimizer.lr=fast"], ["optimizer.lr = 'fast'", "number"]),
    (["train", "optimizer.lr=inf"], ["optimizer.lr = inf", "finite"]),
    (["train", "optimizer.schedule=linear"], ["optimizer.schedule = 'linear'", "'none' or 'cosine'"]),
    (["train", "index.depth=some"], ["index.depth = 'some'", "'all' or a valid integer"]),
    (["train", "trainer.batch_size=null"], ["trainer.batch_size = None", "integer"]),
    (["train", "trainer=5"], ["trainer=5", "choose one of default"]),
    (["train", "dataset=null"], ["dataset=null", "two_moons"]),
    (["sample", "n=0"], ["n = 0", "greater than or equal to 1"]),
    # syntax
    (["train", "dataset"], ["'dataset'", "KEY=VALUE", "dataset=annulus"]),
    (["train", "seed"], ["'seed'", "KEY=VALUE"]),
    (["train", "=3"], ["'=3'", "KEY=VALUE"]),
    (["train", "seed=1=2"], ["seed = 1=2", "quotes"]),
    (["train", "flow.hidden=[8,8"], ["flow.hidden = [8,8", "quotes"]),
    (["train", "seed=1,2"], ["seed=1,2", "-m"]),
    (["train", "+dataset=rings"], ["dataset=rings"]),
    (["train", "seed=${nothing}"], ["seed", "'nothing' not found"]),
    (["train", "seed=${oc.env:NOT_SET_ANYWHERE}"], ["seed", "NOT_SET_ANYWHERE"]),
    # run directories
    (["eval"], ["'run' is missing", "run=DIR"]),
    (["sample"], ["'run' is missing", "run=DIR"]),
    (["eval", "run=nowhere"], ["nowhere"]),
    (["train", "resume=nowhere"], ["nowhere"]),
    (["eval", "run=empty"], ["empty", "config.yaml"]),
    (["eval", "run=."], ["config.yaml", "did you mean", "other"]),
    (["eval", "run=a rum"], ["a rum", "did you mean 'a run'?"]),
    (["eval", "run=file"], ["file"]),
    (["eval", "run=broken"], ["broken/config.yaml"]),
    (["eval", "run=binary"], ["binary/config.yaml"]),
    (["eval", "run=other"], ["other/config.yaml", "'flow.dept'"]),
    (["train", "run=a run"], ["'run'", "resume=DIR"]),
    (["train", "data=x.csv"], ["no key 'data'", "dataset=file dataset.path=x.csv"]),
    (["train", "per_point=x.csv"], ["no key 'per_point'", "cifrun eval"]),
    (["train", "dataset=file", "dataset.columns=[1.5]"], ["dataset.columns = 1.5", "string"]),
    (["sample", "run=a run", "per_point=x.csv"], ["keeps its per_point", "run, n, output"]),
    (["eval", "run=a run", "flow=maf"], ["a run keeps its flow", "'flow=maf'", "run, eval, device, seed"]),
    (["eval", "run=a run", "trainer.max_steps=3"], ["keeps its trainer"]),
    (["sample", "run=a run", "debug=tiny"], ["keeps its settings", "'debug=tiny'"]),
    (["eval", "run=a run", "n=3"], ["'n=3'"]),
    (["train", "resume=a run", "seed=3"], ["keeps its seed", "resume, trainer, eval, device"]),
    (["train", "resume=a run", "cif=true"], ["keeps its cif"]),
    (["train", "hydra.run.dir='a run'"], ["already holds a run", "resume="]),
    # places that can't be written
    (["train", "hydra.run.dir=file/x"], ["file/x"]),
    (["train", "-m", "hydra.sweep.dir=file/x"], ["file/x"]),
    # training itself
    (["train", "optimizer.lr=13"], ["the loss was not finite"]),
]


@pytest.mark.parametrize(("words", "expected"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_a_mistake_gets_one_sentence(
    words: list[str], expected: list[str], calls: list[Call], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = run.parent
    (here / "empty").mkdir()
    (here / "file").write_text("x")
    for name, content in (("broken", b"a: [1"), ("binary", b"\xff\xfe\x00\x01"), ("other", None)):
        (here / name).mkdir()
        if content is None:
            content = (run / "config.yaml").read_bytes().replace(b"depth: 3", b"dept: 3")
        (here / name / "config.yaml").write_bytes(content)
    before = tree(here)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cifrun: ")
    assert err.count("\n") == 1, err
    for word in expected:
        assert word in err, err
    assert tree(here) == before, "a failed command leaves nothing behind"


def test_outputs_that_can_not_be_made(calls: list[Call], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "outputs").write_text("in the way")
    (tmp_path / "multirun").write_text("in the way")
    assert main(["train"]) == 2
    assert main(["train", "-m", "seed=1,2"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "'outputs/" in first
    assert "'multirun/" in second


def test_read_only_folder(
    calls: list[Call], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["train"]) == 2
    assert "Read-only file system" in capsys.readouterr().err


def test_a_full_disk_is_not_a_bug(
    calls: list[Call], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr(compose, "command", full)
    assert main(["train"]) == 2
    assert capsys.readouterr().err == "cifrun: 'metrics.jsonl' can't be used: No space left on device\n"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, ValueError, FileNotFoundError, AssertionError])
def test_a_bug_is_not_swallowed(error: type[Exception], calls: list[Call], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise error("a bug")

    monkeypatch.setattr(compose, "command", broken)
    with pytest.raises(error, match="a bug"):
        main(["train"])


def test_ctrl_c_is_quiet(
    calls: list[Call], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compose, "command", interrupted)
    assert main(["train"]) == 130
    assert capsys.readouterr() == ("", "")


# --- as a process -----------------------------------------------------------------------------------------------------


def process(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}
    command = [sys.executable, "-m", "cifrun", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def test_as_a_module_from_another_directory(tmp_path: Path) -> None:
    done = process("show", "flow.dept=3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cifrun: there is no key 'flow.dept'")
    assert tree(tmp_path) == []


def test_full_error_shows_the_traceback(tmp_path: Path) -> None:
    done = process("show", "flow.dept=3", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "flow.dept" in done.stderr
    done = process("show", "flow.depth=0", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_show_prints_a_table_and_nothing_else(tmp_path: Path) -> None:
    done = process("show", "flow=maf", "flow.depth=2", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "maf" in done.stdout


# --- shell completion -------------------------------------------------------------------------------------------------

COMPLETE = """
eval "$(cifrun --shell-completion install=bash)"
complete -p cifrun
COMP_LINE="$1"; COMP_POINT=${#1}
words=($1); [[ "$1" == *" " ]] && words+=("")
COMP_WORDS=("${words[@]}"); COMP_CWORD=$((${#words[@]} - 1))
hydra_bash_completion
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(line: str, cwd: Path) -> list[str]:
    """What bash offers at the end of `line`, with the function that `cifrun -sc install=bash` installs."""
    bin_dir = cwd / ".bin"  # the function looks for an executable
    bin_dir.mkdir(exist_ok=True)
    (bin_dir / "cifrun").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cifrun "$@"\n')
    (bin_dir / "cifrun").chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", COMPLETE, "bash", line]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    rule, *choices = done.stdout.splitlines()
    assert rule.endswith("hydra_bash_completion cifrun")
    return choices


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cifrun tr", ["train"]),
        ("cifrun train datas", ["dataset.", "dataset="]),
        ("cifrun train -m flow=maf dataset=two_mo", ["dataset=two_moons"]),
        ("cifrun show trainer.max", ["trainer.max_bad_steps=", "trainer.max_steps="]),
        ("cifrun eval run=some", ["run=somewhere/"]),
    ],
)
def test_completion_in_bash(line: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "somewhere").mkdir()
    assert completed(line, tmp_path) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cifrun ", " ".join(VERBS)),
        ("cifrun train device=", "device=auto device=cpu device=gpu"),
        ("cifrun train nonsense=3 flow=", " ".join(f"flow={name}" for name in groups()["flow"])),
        ("cifrun train flow.depth=[ ", ""),
        ("cifrun list ", ""),
        ("cifrun data ", "fetch"),
        ("cifrun data fetch po", "power"),
    ],
)
def test_completion_query(
    line: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr() == (f"{expected}\n" if expected else "", "")
    assert tree(tmp_path) == []
