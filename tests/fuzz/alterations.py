"""Ways to alter a run directory: of each file what it says, a bit, its length, its kind; and where links lead."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from torch import Tensor

from cifrun.runs.checkpoint import Checkpoint

#: The files of a run that a command reads.
FILES = (
    "config.yaml",
    "summary.json",
    "metrics.jsonl",
    "checkpoints/latest.safetensors",
    "checkpoints/best.safetensors",
)

#: Values as JSON has them, and YAML too, in place of whatever was there.
VALUES = (
    *(
        "null",
        "true",
        "false",
        "[]",
        "[1]",
        "{}",
        '{"a": 1}',
        '""',
        '"a"',
        '"all"',
        "0",
        "-1",
        "1",
        "1.5",
        "-0.0",
        "1e400",
    ),
    *("1e-300", "-1e-300", str(2**62)),
    *("-1e400", "5e-324", "1e308", str(2**31), str(2**63 - 1), str(2**63), str(-(2**63) - 1), str(2**64), str(10**20)),
    *(
        str(10**9),
        "1" + "0" * 5000,
        '"../../outside"',
        '"/etc/passwd"',
        '"\\u001b[31mred"',
        '"a\\nb"',
        '"ünï ☃ \\ud83d"',
        '"=1+1"',
    ),
    *('"<script>alert(1)</script>"', '"|a|`b`|"', f'"{"x" * 10**5}"', "[[[[]]]]", "[1e400]", '["a", 1]', "[null]"),
    *("[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000, f"[{'0,' * 200_000}0]"),
)
#: Values that JSON has, and only Python's reader of it.
JSON_ONLY = ("NaN", "Infinity", "-Infinity")
#: Values that only YAML has.
YAML_ONLY = (
    *(
        ".nan",
        ".inf",
        "-.inf",
        "~",
        "2020-01-01",
        "1:30",
        "0o17",
        "0x7fffffffffffffff",
        "1_000",
        "yes",
        "!!binary aGk=",
    ),
    *(
        "0x" + "f" * 5000,
        "0b" + "1" * 20_000,
        "1:" * 100_000 + "1",
        "017",
        "-.5e+3",
        "!!int 0x10",
        "!!float 1:30",
        "!!bool maybe",
        "!!omap [a: 1]",
        "!!timestamp 2020-01-01",
    ),
    *(
        "[{1: a, b: c}]",
        "{1: a, b: c, ~: d, 1.5: e}",
        "[{[1, 2]: a}]",
        "{<<: {a: 1}}",
    ),
    *(
        "!!set {a}",
        "!!python/object/apply:os.system ['touch outside']",
        "&a [*a]",
        "&a {b: *a}",
        "*nowhere",
        "? [a]\n  : 1",
    ),
    "{a: &a [1,1,1,1,1,1,1,1,1], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b], "
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c], e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e], "
    "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f], h: [*g,*g,*g,*g,*g,*g,*g,*g,*g]}",
)
PLACE = "the altered place"

#: Changes the run in a folder, with a folder for what links lead to; says what it did.
Alteration = Callable[[Path, Path, Random], str]


def alter(run: Path, outside: Path, draw: Random) -> str:
    """Do one of the alterations."""
    return draw.choice(ALTERATIONS)(run, outside, draw)


def _config(run: Path, outside: Path, draw: Random) -> str:
    """A value of config.yaml is another, or gone, or there is one more."""
    file = run / "config.yaml"
    data = yaml.safe_load(file.read_text())
    holder, key = draw.choice([*_places(data), (data, "new"), (data["flow"], "new"), (data["dataset"], "new")])
    if draw.random() < 0.1 and key in holder:
        del holder[key]
        file.write_text(yaml.safe_dump(data))
        return f"config.yaml without {key}"
    value = draw.choice(VALUES + YAML_ONLY)
    holder[key] = PLACE
    file.write_text(yaml.safe_dump(data).replace(PLACE, value))
    return f"config.yaml: {key} is {value[:60]}"


def _summary(run: Path, outside: Path, draw: Random) -> str:
    """A value of summary.json is another."""
    file = run / "summary.json"
    data = json.loads(file.read_text())
    holder, key = draw.choice([*_places(data), (data, "new"), *([(data["test"], "new")] if "test" in data else [])])
    value = draw.choice(VALUES + JSON_ONLY)
    holder[key] = PLACE
    file.write_text(json.dumps(data).replace(f'"{PLACE}"', value))
    return f"summary.json: {key} is {value[:60]}"


def _metrics(run: Path, outside: Path, draw: Random) -> str:
    """A value of a line of metrics.jsonl is another, or a line is."""
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines()
    k, value = draw.randrange(len(lines)), draw.choice(VALUES + JSON_ONLY)
    row = json.loads(lines[k])
    key = draw.choice(["", *row])
    lines[k] = value if not key else json.dumps({**row, key: PLACE}).replace(f'"{PLACE}"', value)
    file.write_text("\n".join(lines) + "\n")
    return f"metrics.jsonl: {key} of line {k} is {value[:60]}"


def _header(run: Path, outside: Path, draw: Random) -> str:
    """A value of what a checkpoint says of itself is another, with a checksum or as of old, without."""
    file = run / "checkpoints" / f"{draw.choice(['latest', 'best'])}.safetensors"
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    if draw.random() < 0.5:
        header["__metadata__"]["format"] = "cifrun-1"
        header["__metadata__"].pop("sha256", None)
    value = draw.choice(VALUES + JSON_ONLY)
    if draw.random() < 0.7:
        state = json.loads(header["__metadata__"]["state"])
        holder, key = draw.choice([*_places(state), (state, "new")])
        holder[key] = PLACE
        header["__metadata__"]["state"] = json.dumps(state).replace(f'"{PLACE}"', value)
        text = json.dumps(header)
    else:
        holder, key = draw.choice(list(_places(header)))
        holder[key] = PLACE
        text = json.dumps(header).replace(f'"{PLACE}"', value)
    claimed = draw.choice([0, 1, 2**31, 2**63, 2**64 - 1]) if draw.random() < 0.1 else len(text.encode())
    file.write_bytes(struct.pack("<Q", claimed) + text.encode() + content[8 + length :])
    return f"{file.name}: {key} is {value[:60]}, {header.get('__metadata__') and header['__metadata__'].get('format')}"


def _signed(run: Path, outside: Path, draw: Random) -> str:
    """What a checkpoint says of itself, or a tensor, is another, and its checksum is the right one for that."""
    file = draw.choice(sorted((run / "checkpoints").glob("*.safetensors")))
    checkpoint = Checkpoint.read(file)
    if draw.random() < 0.4:
        value = draw.choice([value for value in VALUES if len(value) < 10**6])
        holder, key = draw.choice([*_places(checkpoint.state), (checkpoint.state, "new")])
        try:
            holder[key] = json.loads(value)
        except (ValueError, RecursionError):  # which have no text that could be signed
            holder[key] = [2**62, {"a": None}]
        what = f"{key} is {value[:60]}"
    else:
        key = draw.choice(sorted(checkpoint.tensors))
        change = draw.choice(sorted(TENSORS))
        changed = [key]
        if draw.random() < 0.5:  # all of its kind
            kind = key.partition(".")[0]
            changed = [name for name in checkpoint.tensors if name.partition(".")[0] == kind]
        for name in changed:
            checkpoint.tensors[name] = TENSORS[change](checkpoint.tensors[name])
        if draw.random() < 0.2:
            tensor = checkpoint.tensors.pop(key)
            checkpoint.tensors |= {draw.choice(["new", f"{key}.new", "model.new", "optimizer.0.new"]): tensor}
        what = f"{key}, {len(changed)} in all: {change}"
    checkpoint.save(file)
    return f"{file.name}, signed: {what}"


#: What a tensor may become.
TENSORS: dict[str, Callable[[Tensor], Tensor]] = {
    "cut": lambda t: t[..., :1] if t.dim() else t,
    "empty": lambda t: t.reshape(-1)[:0],
    "flat": lambda t: t.reshape(-1),
    "longer": lambda t: torch.cat([t.reshape(-1), t.reshape(-1)]),
    "turned": lambda t: t.mT if t.dim() > 1 else t[None],
    "half": lambda t: t.half(),
    "double": lambda t: t.double(),
    "complex": lambda t: t.to(torch.complex64),
    "whole": lambda t: t.nan_to_num().long(),
    "truth": lambda t: t.bool(),
    "zero": torch.zeros_like,
    "negative": lambda t: -t.double(),
    "NaN": lambda t: torch.full(t.shape, torch.nan),
    "infinite": lambda t: torch.full(t.shape, -torch.inf),
    "huge": lambda t: torch.full(t.shape, 3e38),
    "far": lambda t: torch.full(t.shape, 2**62),
}


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Each value of nested data, as what holds it and its key."""
    for key, value in list(data.items() if isinstance(data, dict) else enumerate(data)):
        yield data, key
        if isinstance(value, dict | list):
            yield from _places(value)


def flipped(run: Path, outside: Path, draw: Random) -> str:
    """A bit of a checkpoint is the other."""
    file = run / "checkpoints" / f"{draw.choice(['latest', 'best'])}.safetensors"
    content = bytearray(file.read_bytes())
    place, bit = draw.randrange(len(content)), draw.randrange(8)
    content[place] ^= 1 << bit
    file.write_bytes(content)
    return f"bit {bit} of byte {place} of {file.name}"


def _cut(run: Path, outside: Path, draw: Random) -> str:
    """A file is shorter, or goes on with what does not belong to it."""
    file = run / draw.choice(FILES)
    content = file.read_bytes()
    kind = draw.choice(["cut", "longer", "empty", "noise", "latin", "bom", "nul"])
    noise = draw.randbytes(draw.choice([1, 100, 10_000]))
    latin = "# Grüße\n".encode("latin-1")
    middle = draw.randrange(len(content))
    changed = {
        "cut": content[:middle],
        "longer": content + noise,
        "empty": b"",
        "noise": noise,
        "latin": latin + content,
        "bom": b"\xef\xbb\xbf" + content,
        "nul": content[:middle] + b"\0" * 50 + content[middle:],
    }
    file.write_bytes(changed[kind])
    return f"{file.name}: {kind}"


def _kind(run: Path, outside: Path, draw: Random) -> str:
    """A file or folder is gone, or something else."""
    path = run / draw.choice([*FILES, "checkpoints", "figures"])
    kind = draw.choice(["nothing", "folder", "fifo", "unreadable", "file", "read-only"])
    if path.name == "figures":
        path.mkdir(exist_ok=True)
    if kind in ("unreadable", "read-only"):
        path.chmod(0o000 if kind == "unreadable" else 0o555 if path.is_dir() else 0o444)
        return f"{path.name}: {kind}"
    _remove(path)
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "file":
        path.write_text("nothing\n")
    return f"{path.name}: {kind}"


def _link(run: Path, outside: Path, draw: Random) -> str:
    """A file or folder is a link to its like elsewhere, to itself, to nothing, or to a device."""
    path = run / draw.choice([*FILES, "checkpoints", "figures", "figures/density.png", "checkpoints/.latest.tmp"])
    (run / "figures").mkdir(exist_ok=True)
    kind = draw.choice(["outside", "outside", "outside", "itself", "nothing", "/dev/zero", "/dev/full", "beside"])
    place = outside / path.name
    if kind == "outside" and path.exists():
        shutil.move(path, place)
    _remove(path)
    targets = {
        "outside": place,
        "itself": path,
        "nothing": outside / "nothing",
        "beside": run.parent / "good" / path.name,
    }
    path.symlink_to(targets.get(kind, Path(kind)))
    return f"{path.name}: a link to {kind}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _status(run: Path, outside: Path, draw: Random) -> str:
    """The run is one that has not ended, in which one of the other things has happened too."""
    file = run / "summary.json"
    data = json.loads(file.read_text())
    data.pop("test")
    file.write_text(json.dumps({**data, "status": draw.choice(["running", "interrupted", "failed", "unheard of"])}))
    return f"unfinished; {draw.choice(ALTERATIONS[:-1])(run, outside, draw)}"


ALTERATIONS: tuple[Alteration, ...] = (
    *(_config, _config, _config, _summary, _metrics, _header, _header, _signed, _signed, _signed),
    *(flipped, _cut, _kind, _link, _link, _status),
)
