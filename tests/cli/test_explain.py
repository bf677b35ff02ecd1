"""One sentence for every mistake: it names the key, its value, what is allowed, and what was probably meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cifrun.cli.main import main
from tests.cli.helpers import Call, tree

#: Words of libraries.
RAW = re.compile(r"Lexer|extraneous|mismatched|viable|Config\b|_type|Error|Exception|Optional|interpolation")

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
    (["train", "objective.name=elbow"], ["no objective 'elbow'", "iwae", "did you mean 'elbo'?"]),
    (["train", "-m", "flow=maf,mav"], ["no flow 'mav'", "did you mean 'maf'?"]),
    # keys
    (["train", "flow.dept=3"], ["no key 'flow.dept'", "allowed in flow", "did you mean 'flow.depth'?"]),
    (["train", "trainer.max_step=5"], ["'trainer.max_step'", "did you mean 'trainer.max_steps'?"]),
    (["train", "max_steps=5"], ["no key 'max_steps'", "did you mean 'trainer.max_steps'?"]),
    (["train", "trainr.max_steps=5"], ["no key 'trainr'", "did you mean 'trainer'?"]),
    (["train", "fow=resflow"], ["no key 'fow'", "did you mean 'flow'?"]),
    (["train", "flow.depth.x=1"], ["no key 'flow.depth.x'"]),
    (["train", "+trainer.steps=5"], ["no key 'trainer.steps'", "did you mean 'trainer.max_steps'?"]),
    (["train", "hydra.rundir=x"], ["no key 'hydra.rundir'", "did you mean 'hydra.run'?"]),
    (["train", "~flow"], ["'flow'", "missing"]),
    (["train", "~trainer.steps"], ["'trainer.steps'", "does not exist"]),
    # types and ranges
    (["train", "cif=maybe"], ["cif = 'maybe'", "true or false"]),
    (["train", "experiment=two_d_maf", "cif=maybe"], ["'maybe'", "true or false"]),
    (["train", "-m", "sweep.name=" + "a" * 5000, "seed=1,2"], ["multirun/aaa", "File name too long"]),
    (["train", "index.dim=65536"], ["index.dim = 65536", "less than or equal to 4096"]),
    (["train", "diagnostics.weights=2147483647"], ["diagnostics.weights", "less than or equal to"]),
    (["train", "seed=1.5"], ["seed = 1.5", "it should be a whole number"]),
    (["train", "flow.depth=0"], ["flow.depth = 0", "greater than or equal to 1"]),
    (["train", "trainer=5"], ["trainer=5", "choose one of default"]),
    (["train", "dataset=null"], ["dataset=null", "two_moons"]),
    (["sample", "run=a run", "n=0"], ["n = 0", "greater than or equal to 1"]),
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
    (["train", "seed=Ä"], ["seed = Ä can't be read", "put it in quotes, seed=\"'Ä'\""]),
    (["train", "seed='"], ["seed = ' can't be read", "put it in quotes"]),
    (["train", "seed=x(1)"], ["there is no function 'x'"]),
    (["train", "flow.=1"], ["'flow.' is no key"]),
    (["train", "flow.hidden={a:1}"], ["flow.hidden={a:1} is not allowed: it should be a list"]),
    (["train", "flow=[maf]"], ["flow=[maf] is not allowed: choose one of affine"]),
    (["train", "trainer=[1]"], ["trainer=[1] is not allowed: choose one of default"]),
    (["train", "trainer=[[a]]"], ["trainer=[[a]] is not allowed: choose one of default"]),
    (["train", "trainer=${seed}"], ["${seed} can't be worked out"]),
    (["train", "++flow=maf"], ["flow is chosen already: write flow=maf"]),
    (["train", "+seed=1"], ["seed is there already: write seed=1"]),
    (["train", "hydra=null"], ["hydra=null is not allowed"]),
    (["train", "flow=maf", "flow.family=sos"], ["flow.family=sos contradicts flow=maf"]),
    (["train", "dataset=rings", "dataset.name=file"], ["dataset.name=file contradicts dataset=rings"]),
    (["train", "optimizer=adam", "optimizer.name=sgd"], ["optimizer.name=sgd contradicts optimizer=adam"]),
    (["train", "objective.name=iwae", "objective=elbo"], ["objective.name=iwae contradicts objective=elbo"]),
    (["train", "-m", "flow=maf,sos", "flow.family=sos"], ["flow.family=sos contradicts flow=maf,sos"]),
    (["train", "flow.family=sos"], ["flow.family=sos is not allowed", "write flow=sos"]),
    (["train", "-m", "flow.family=maf,sos"], ["flow.family=maf,sos is not allowed", "write flow=maf,sos"]),
    (["train", "optimizer.name=adam"], ["optimizer.name=adam is not allowed", "write optimizer=adam"]),
    (["train", "objective.name=iwae"], ["objective.name=iwae is not allowed", "write objective=iwae"]),
    (["train", "dataset.name=rings"], ["dataset.name=rings is not allowed", "write dataset=rings"]),
    (["train", "hydra.run.dir="], ["hydra.run.dir= is not allowed", "name a place"]),
    (["train", "resume="], ["resume= is not allowed", "name a place"]),
    (["train", "resume=''"], ["resume='' is not allowed", "name a place"]),
    (["train", "resume=null"], ["resume=null is not allowed", "train anew"]),
    (["train", "dataset=file", "dataset.path="], ["dataset.path= is not allowed"]),
    (["train", "warm_start="], ["warm_start= is not allowed"]),
    (["train", "-m", "hydra.sweep.dir=", "seed=1,2"], ["hydra.sweep.dir= is not allowed"]),
    (["train", "-m", "sweep.name=", "seed=1,2"], ["sweep.name= is not allowed"]),
    (["eval", "run="], ["run= is not allowed", "name a place"]),
    (["eval", "run=null"], ["'run' is missing", "run=DIR"]),
    (["eval", "run=a run", "data="], ["data= is not allowed"]),
    (["eval", "run=a run", "per_point="], ["per_point= is not allowed"]),
    (["sample", "run=", "n=3"], ["run= is not allowed"]),
    (["sample", "run=a run", "output="], ["output= is not allowed"]),
    (["report", ".", "output="], ["output= names no directory"]),
    (["report", ""], ["'' names no directory"]),
    (["train", "hydra.job.num=x"], ["hydra.job.num=x is not allowed: it should be a whole number"]),
    (["train", "hydra.run.dir=null"], ["hydra.run.dir=null is not allowed: it can't be null"]),
    (["train", "seed=${seed}"], ["it refers to itself"]),
    (["train", f"seed={'1' * 5000}"], ["a number has more than 4300 digits"]),
    # run directories
    (["eval"], ["'run' is missing", "run=DIR"]),
    (["eval", "run=nowhere"], ["nowhere"]),
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
    (["sample", "run=a run", "per_point=x.csv"], ["keeps its per_point", "run, n, output"]),
    (["eval", "run=a run", "flow=maf"], ["a run keeps its flow", "flow=maf can't", "takes run, data, per_point, eval"]),
    (["sample", "run=a run", "debug=tiny"], ["keeps its settings", "debug=tiny can't"]),
    (["train", "resume=a run", "seed=3"], ["keeps its seed", "resume, trainer, eval, device"]),
    # what is another kind of value, and what has no end
    (["train", "index.action=5"], ["index.action = 5", "'bounded' or 'planar'"]),
    (["train", "optimizer.name=5"], ["optimizer = 5", "adam"]),
    (["train", "objective.name=[1]"], ["objective = [1]", "iwae"]),
    (["train", "flow.family=5"], ["flow.family = 5", "realnvp"]),
    (["train", "seed=true"], ["seed = True", "it should be a whole number"]),
    (["train", "flow.depth=true"], ["flow.depth = True", "it should be a whole number"]),
    (["train", "flow=maf", "flow.hidden=[true,8]"], ["flow.hidden = [True, 8]"]),
    (["train", "optimizer.lr=false"], ["optimizer.lr = False", "number"]),
    (["train", "cif=1.0"], ["cif = 1.0", "true or false"]),
    (["train", "cif=1"], ["cif = 1 ", "true or false"]),
    (["train", "dataset=file", "dataset.header=1"], ["dataset.header = 1", "true or false or 'auto'"]),
    (["train", "trainer.max_steps=9223372036854775808"], ["trainer.max_steps = 9223372036854775808"]),
    (["train", "optimizer.warmup_steps=100000000000000000000"], ["optimizer.warmup_steps", "less than or equal to"]),
    (["train", "optimizer.lr=1e308"], ["optimizer.lr = 1e+308"]),
    (["train", "flow=maf", "flow.hidden=[1e308]"], ["flow.hidden", "fewer digits"]),
    (["sample", "run=a run", "n=100000000000000000000"], ["n = 100000000000000000000"]),
    (["train", f"index.dim={'[' * 200}{']' * 200}"], ["index.dim nests deeper than 20 brackets"]),
    # keys of other verbs
    (["show", "run=a run"], ["show has no key 'run'"]),
    (["show", "resume=a run"], ["show has no key 'resume'", "cifrun train"]),
    (["train", "n=5"], ["train has no key 'n'", "cifrun sample"]),
    (["train", "output=x.csv"], ["train has no key 'output'", "cifrun sample"]),
    (["train", "-m", "sweep.name=../../x", "seed=1,2"], ["sweep.name = '../../x'", "a name, of letters, digits"]),
    (["train", "resume=a run", "hydra.run.dir=b"], ["hydra.run.dir is not for train resume=DIR"]),
    (["eval", "run=a run", "hydra.run.dir=b"], ["hydra.run.dir is not for eval"]),
    (["train", "-m", "sweep.name=a/b", "seed=1,2"], ["sweep.name = 'a/b'"]),
    (["train", "-m", "hydra.run.dir=x", "seed=1,2"], ["hydra.run.dir is of one job", "hydra.sweep.dir=DIR"]),
    (["train", "hydra.sweep.dir=x"], ["hydra.sweep.dir is of a multirun", "add -m"]),
    (["train", "hydra.sweep.subdir=x"], ["hydra.sweep.subdir is of a multirun", "add -m"]),
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
    assert not RAW.search(err), err
    assert tree(here) == before, "a failed command leaves nothing behind"
