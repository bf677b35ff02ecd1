"""Bad lines for the command line, made from the settings that there are, and from Hydra's grammar."""

from __future__ import annotations

from random import Random

from cifrun.config.fields import Setting, settings
from cifrun.config.schema import Config
from cifrun.registry import CLASSES

from .runs import FEW, TINY

#: What is typed after KEY=, allowed there or not.
VALUES = (
    *(
        "null",
        "true",
        "false",
        "1",
        "0",
        "-1",
        "1.5",
        "1e308",
        "1e400",
        "-1e400",
        "nan",
        "inf",
        "-inf",
        "5e-324",
        "''",
        "all",
    ),
    *(
        str(2**31),
        str(2**63 - 1),
        str(2**63),
        str(10**20),
        "1" + "0" * 400,
        "1" + "0" * 5000,
        "0x10",
        "1_000",
        "1e3",
        "007",
    ),
    *(
        "[]",
        "[1]",
        "[0]",
        "[-1]",
        "[1,2]",
        "[[1]]",
        "[null]",
        "[true]",
        "[1.5]",
        "[a]",
        f"[{','.join(['1'] * 70)}]",
        "{}",
    ),
    *(
        "{a:1}",
        "{a:{b:[1]}}",
        "a",
        "auto",
        "Ä",
        "☃",
        "a b",
        "a\tb",
        "'a b'",
        '"a"',
        "'",
        '"',
        "[",
        "{",
        "]",
        "a]",
        "(",
        "x(1)",
    ),
    *(
        "a=b",
        "a:b",
        "a,b",
        "1,2",
        "$",
        "${seed}",
        "${nothing}",
        "${oc.env:HOME}",
        "${oc.env:NOWHERE}",
        "${oc.decode:1}",
        "${",
    ),
    *(
        "${cifrun.new_dir:x}",
        "${cifrun.job:a,b,c}",
        "\\",
        "a\\b",
        "%",
        "~",
        "~/x",
        "?",
        "*",
        "???",
        "!!python/none",
        "a\nb",
        "\x1b[31m",
    ),
    *(
        "choice(1,2)",
        "range(3)",
        "range(10000000000)",
        "interval(0,1)",
        "glob(*)",
        "int(1.5)",
        "str(",
        "sort(1,2)",
        "shuffle(1,2)",
    ),
    *("[" * 200 + "]" * 200, "x" * 300, "x" * 5000, "../x", "./x", "x/", "x//y", "-", "--", "\u202ea", "\ud83d"),
)
#: Words that are no KEY=VALUE, or of Hydra's own.
# fmt: off
WORDS = (
    "=", "==", "=1", "seed", "seed=", "=seed", "seed==1", "seed:1", "+seed=1", "++seed=1", "~seed", "~flow",
    "~dataset", "~trainer", "+flow=maf", "++flow=maf", "flow@dataset=maf", "dataset@flow=rings", "+new=1", "++new=1",
    "++new.a=1", "++flow.new=1", "+a.b.c=[1]", "seed@a=1", "flow@:x=maf", "flow=maf,sos", "flow=[maf]", "flow={}",
    "flow=null", "dataset=", "dataset=null", "flow.=1", ".flow=1", "..=1", "flow..depth=1", "flow.depth.x=1",
    "flow[0]=1", "trainer=1", "trainer={}", "trainer=[]", "trainer=null", "trainer.=1", "hydra/launcher=nothing",
    "hydra/launcher=basic", "hydra/sweeper=nothing", "hydra.mode=MULTIRUN", "hydra.mode=x", "hydra.verbose=true",
    "hydra.job.chdir=true", "hydra.output_subdir=x", "hydra.run.dir=", "hydra.run.dir=null", "hydra.run.dir=[a]",
    "hydra=null", "~hydra", "hydra.run.dir=a\nb", "hydra.run.dir=table.csv", "hydra.run.dir=table.csv/x",
    "hydra.sweep.dir=x", "hydra.sweep.subdir=x", "hydra.job.num=x", "hydra.searchpath=[nowhere]",
    "hydra.searchpath=[pkg://nowhere]", "hydra.job.env_set.A=1", "hydra.job_logging=null", "hydra.help.template=x",
    "--cfg", "--cfg=job", "--cfg=x", "-c", "--info", "--info=x", "--info=all", "--package=flow", "-p", "-cp",
    "--config-path=x", "-cn=x", "--config-dir=x", "--config-name=nothing", "--multirun", "-m", "-mm", "-x", "--",
    "---", "-", "--hydra-help", "--resolve", "--run", "--experimental-rerun=x", "--shell-completion", "-sc",
    "--version", "", " ", "\t", "#", "", "{}", "[]", "'", '"', "*", "?", "☃", "experiment=nothing",
    "experiment=two_d_maf", "debug=tiny", "debug=x", "experiment=null", "sweep.name=x", "sweep.name=a/b",
    "sweep.name=..", "run=x", "resume=x", "resume=.", "resume=table.csv", "run=.", "run=null", "n=5", "output=x.csv",
    "data=table.csv", "per_point=x.csv", "output=nowhere/x.csv", "output=x.xyz", "output=x", "output=.", "output=[a]",
    "per_point=nowhere/x.csv", "per_point=x", "data=nowhere.csv",
)
# fmt: on
VERBS = (
    "train",
    "train",
    "train",
    "train",
    "train",
    "eval",
    "sample",
    "show",
    "report",
    "data",
    "list",
    "nothing",
    "Train",
    "",
)


def known() -> list[Setting]:
    """Every setting that some run has."""
    found = {setting.name: setting for setting in settings(Config)}
    for registry in CLASSES:
        for name in registry:
            found |= {setting.name: setting for setting in settings(registry[name], registry.noun)}
    return list(found.values())


def line(draw: Random) -> list[str]:
    """A command with something wrong in it, mostly."""
    kind = draw.random()
    if kind < 0.55:
        words = ["train", *TINY, *FEW, f"{draw.choice(known()).name}={draw.choice(VALUES)}"]
    elif kind < 0.7:
        words = ["train", *TINY, *FEW, draw.choice(WORDS)]
    elif kind < 0.8:
        verb = draw.choice(["eval", "sample", "train"])
        words = [
            verb,
            f"{'resume' if verb == 'train' else 'run'}=run",
            draw.choice([*WORDS, _setting(draw), _setting(draw)]),
        ]
    elif kind < 0.9:
        words = [draw.choice(VERBS), *(draw.choice([*WORDS, _setting(draw)]) for _ in range(draw.randrange(4)))]
        words += [*TINY, *FEW] if words[0] == "train" else []
    else:
        words = ["train", *TINY, *FEW, _setting(draw)]
        k = draw.randrange(1, len(words))
        words[k] = _mutated(words[k], draw)
    if "-m" in words[1:] or "--multirun" in words[1:] or draw.random() < 0.03:
        words = [*words, "-m"]
    return words


def _setting(draw: Random) -> str:
    return f"{draw.choice(known()).name}={draw.choice(VALUES)}"


def _mutated(word: str, draw: Random) -> str:
    """With some characters gone, twice, in another place, or others."""
    for _ in range(draw.randrange(1, 4)):
        k = draw.randrange(len(word) + 1)
        other = draw.choice("=.,:[]{}()'\"~+-@$ \\\t0aÄ☃\u200b\u202e")
        word = draw.choice([word[:k] + word[k + 1 :], word[:k] + other + word[k:], word[k:] + word[:k], word[:k]])
    return word


def odd_name(draw: Random) -> str:
    """A name of a folder as people have them, and worse; but for a quote at its beginning, which quotes a value."""
    signs = "ab =,$ö:'\"[]{}()~+@#%&;!?*☃.-\\"
    return "".join(draw.choice(signs) for _ in range(draw.randrange(1, 9))).lstrip("'\"").strip(". ~'\"") or "ö"
