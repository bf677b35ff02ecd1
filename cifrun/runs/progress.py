"""How far a long piece of work is."""

from __future__ import annotations

import os
import sys
import time
from typing import IO, Any


class Progress:
    """How far training is, or other work: a bar on a terminal, a line now and then elsewhere.

    Arguments:
        total: The number of the last step.
        initial: The step from which a continued run goes on.
        enabled: False prints nothing.
        stream: Where to print.
        unit: What is counted.
    """

    #: Seconds between lines where the stream is no terminal, and between redraws of the bar where it is one.
    LINE_SECONDS = 10.0
    BAR_SECONDS = 0.2

    def __init__(
        self,
        total: int,
        initial: int = 0,
        enabled: bool = True,
        stream: IO[str] | None = None,
        unit: str = "step",
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._total, self._initial, self._step = total, initial, initial
        self._unit = unit
        self._loss: float | None = None
        self._valid: float | None = None
        self._began = self._printed = time.monotonic()
        self._printed_step = -1
        self._open = enabled
        self._bar: Any = None
        if enabled and self._stream.isatty():
            from tqdm import tqdm

            # A pseudo-terminal may not know its size, and tqdm would draw nothing.
            sized = all(os.get_terminal_size(self._stream.fileno()))
            self._bar = tqdm(
                total=total,
                initial=initial,
                file=self._stream,
                unit=f" {unit}",
                ncols=None if sized else 80,
                nrows=None if sized else 24,
                dynamic_ncols=sized,
                mininterval=self.BAR_SECONDS,
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]{postfix}",
            )
        elif enabled:
            self._print_line()

    def update(self, step: int, loss: float | None = None, valid: float | None = None) -> None:
        """`step` steps are done. A loss or a validation log-likelihood is shown until the next one is given."""
        if not self._open:
            return
        self._step = step
        self._loss = self._loss if loss is None else loss
        self._valid = self._valid if valid is None else valid
        if self._bar is not None:
            if loss is not None or valid is not None:
                self._bar.set_postfix_str(self._numbers(), refresh=False)
            self._bar.update(step - self._bar.n)  # draws only when the last time is long enough ago
        elif time.monotonic() - self._printed >= self.LINE_SECONDS:
            self._print_line()

    def close(self) -> None:
        """Leave the last state on the screen; a second call does nothing."""
        if not self._open:
            return
        self._open = False
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
        elif self._printed_step != self._step:
            self._print_line()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _numbers(self) -> str:
        shown = {"loss": self._loss, "valid": self._valid}
        return "  ".join(f"{name} {value:.3f}" for name, value in shown.items() if value is not None)

    def _print_line(self) -> None:
        self._printed = time.monotonic()
        self._printed_step = self._step
        elapsed, done = self._printed - self._began, self._step - self._initial
        if self._step >= self._total:
            clock = f"took {_duration(elapsed)}"
        else:
            clock = f"{_duration(elapsed / done * (self._total - self._step))} left" if done > 0 else ""
        parts = [f"{self._unit} {self._step}/{self._total}", self._numbers(), clock]
        print("  ".join(filter(None, parts)), file=self._stream, flush=True)


def _duration(seconds: float) -> str:
    """`2.1 s`, `3 min 05 s`, `1 h 02 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
