"""A process that has imported what commands need, and forks a child for each, which costs no start of an interpreter.

It reads a line of JSON for each command (`Order`), and answers with the exit code, or null if it had to be ended. It
has done nothing but import and compose a config, so that forking it is safe. A child has bounds: a time after which it
counts as stuck, and memory, so that a huge allocation is a failure of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

#: Seconds after which a command counts as stuck, and bytes that it may have beyond what is imported.
HANG, MEMORY = 120, 3 * 2**30
#: What a command may need; the last of them reads the fonts of the machine, or looks for them.
IMPORTED = (
    *("cifrun.training.loop", "cifrun.evaluation.sample", "cifrun.reporting.report", "cifrun.api.flows"),
    *("pyarrow.csv", "pyarrow.parquet", "torch.utils.tensorboard", "PIL.Image", "matplotlib.figure"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf", "matplotlib.font_manager"),
)
#: Capabilities of root by which it may read and write any file.
ANY_FILE = (1, 2)


@dataclass
class Order:
    """A command, and what is done to it.

    Attributes:
        verb: "main", a command line; or "load", `cifrun.load` of a path.
        kill_at: Kill it before so many operations on files.
        kill_after: Kill it after so many steps of training.
        interrupt_after: Ask it to stop, by SIGTERM, after so many steps.
        file_size: Bytes that a file may have: writing more of it fails, or kills if `torn`.
    """

    words: Sequence[str]
    directory: str
    environment: Mapping[str, str] = field(default_factory=dict)
    verb: str = "main"
    pictures: bool = False
    kill_at: int | None = None
    kill_after: int | None = None
    interrupt_after: int | None = None
    file_size: int | None = None
    torn: bool = False
    out: str = os.devnull
    err: str = os.devnull


class Server:
    """Does orders, one at a time."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.fuzz.server"]
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, order: Order) -> int | None:
        """The exit code: minus the signal that ended it, None if it was stuck."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        code: int | None = json.loads(self._process.stdout.readline())
        return code

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def serve() -> None:
    """Do what orders on stdin say, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _warm_up()
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            _obey(Order(**json.loads(line)))
        answers.write(json.dumps(_wait(pid)) + "\n")
        answers.flush()


def _warm_up() -> None:
    for name in IMPORTED:
        import_module(name)
    from cifrun.cli.main import main

    main(["train", "--cfg", "job"])


def _wait(pid: int) -> int | None:
    handle = os.pidfd_open(pid)
    try:
        ended, _, _ = select.select([handle], [], [], HANG)
    finally:
        os.close(handle)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # and what it may have started
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if ended else None


#: What a child changes in itself, for as long as it lives.
_TO_THE_END = ExitStack()


# --- in the child -----------------------------------------------------------------------------------------------------


def _obey(order: Order) -> None:
    """Do an order, and end."""
    code = 1
    try:
        os.setsid()
        os.chdir(order.directory)
        os.environ.update(order.environment)
        for number, (path, flags) in enumerate(
            ((os.devnull, os.O_RDONLY), (order.out, os.O_WRONLY | os.O_CREAT), (order.err, os.O_WRONLY | os.O_CREAT))
        ):
            os.dup2(os.open(path, flags), number)
        _bound(order)
        code = _work(order)()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _bound(order: Order) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.geteuid() == 0:
        forgo(ANY_FILE)
    if order.kill_at is not None:
        _count_down(order.kill_at)
    if order.file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if order.torn else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order.file_size, order.file_size))


def _work(order: Order) -> Callable[[], int]:
    from tests.helpers import after_steps, without_pictures

    if not order.pictures:
        _TO_THE_END.enter_context(without_pictures())
    for count, number in ((order.kill_after, signal.SIGKILL), (order.interrupt_after, signal.SIGTERM)):
        if count is not None:
            _TO_THE_END.enter_context(after_steps(count, partial(os.kill, os.getpid(), number)))
    return {"main": _main, "load": _load}[order.verb](list(order.words))


def _main(words: list[str]) -> Callable[[], int]:
    from cifrun.cli.main import main

    return lambda: main(words)


def _load(words: list[str]) -> Callable[[], int]:
    import cifrun
    from cifrun.errors import CifrunError

    def load() -> int:
        try:
            model = cifrun.load(words[0])
            print(model.log_prob(__import__("torch").zeros(2, 2), seed=0))
        except CifrunError as error:
            print(f"cifrun: {error}", file=sys.stderr)
            return 2
        return 0

    return load


def forgo(capabilities: Sequence[int]) -> None:
    """Take capabilities from this process."""

    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, of 64 capabilities
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for number in capabilities:
        for kind in range(3):
            sets[3 * (number // 32) + kind] &= ~(1 << (number % 32))
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


#: Operations on files that Python tells of.
OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.listdir", "os.link")


def _count_down(left: int) -> None:
    """Be killed before the last of so many operations that change files, or list them."""
    count = left

    def hook(event: str, arguments: Any) -> None:
        nonlocal count
        if event not in OPERATIONS:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    serve()
