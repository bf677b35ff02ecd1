"""Processes of their own that start at once, forked from a server that has imported what they need.

An interpreter takes seconds to import torch and Fabric. A test of a signal, a kill or a second process need not wait
for that; one of how a command starts does. The server itself has done nothing but import, so that forking it is safe.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from cifrun.compute import device

_CONTEXT = multiprocessing.get_context("forkserver")
#: What most processes of the tests need.
_CONTEXT.set_forkserver_preload(["cifrun.cli.hydra_app", "cifrun.training.loop", "torch.utils.tensorboard"])

#: Seconds after which a process counts as stuck.
HANG = 600


class Forked:
    """A process that does `work(*args)` and ends with what that returns, as a command does.

    Arguments:
        work: A function at the top of a module, which can be pickled.
        args: What it is given.
        directory: Where it works; by default, here.
        environment: Variables beside those of this process.
    """

    def __init__(
        self,
        work: Callable[..., int | None],
        *args: Any,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = TemporaryDirectory()
        files = [Path(self._folder.name, name) for name in ("out", "err")]
        settings = (str(directory or Path.cwd()), {**os.environ, **(environment or {})}, files)
        self._process = _CONTEXT.Process(target=_do, args=(settings, work, args))
        self._process.start()
        self._files = files

    @property
    def exitcode(self) -> int | None:
        """None while it runs; minus the signal that killed it."""
        return self._process.exitcode

    def wait(self) -> tuple[int, str, str]:
        """Its exit code, and what it printed."""
        self._process.join(HANG)
        assert self._process.exitcode is not None, "it does not end"
        out, err = (file.read_text() if file.exists() else "" for file in self._files)
        self._folder.cleanup()
        return self._process.exitcode, out, err

    def kill(self) -> None:
        """End it if it still runs."""
        self._process.kill()
        self._process.join(HANG)


def _do(settings: tuple[str, dict[str, str], list[Path]], work: Callable[..., int | None], args: Any) -> None:
    directory, environment, files = settings
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files, 1):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.exit(work(*args))


@contextmanager
def forking() -> Iterator[None]:
    """Inside, the processes that `cifrun.compute.device.spread` starts are forked from the server, not started anew."""
    multiprocessing.forkserver.ensure_running()  # before Fabric sets variables, which belong to the first of them only
    with patch.object(device, "DDPStrategy", partial(_ddp, device.DDPStrategy)):
        yield


def _ddp(strategy: Callable[..., Any], start_method: str, **options: Any) -> Any:
    return strategy(start_method="forkserver" if start_method == "spawn" else start_method, **options)
