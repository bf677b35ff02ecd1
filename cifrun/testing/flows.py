"""What every registered flow promises, plain and indexed, for vectors and images of all shapes where it is defined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ConfigError
from .flow_cases import LARGER, SHAPES, Family, FlowCase, Shape
from .models import CHECKS as OF_MODELS
from .models import GPU_CHECKS
from .promises import hold, require
from .work import CHECKS as OF_WORK

__all__ = ["CHECKS", "FAMILY_CHECKS", "GPU_CHECKS", "Family", "FlowCase", "check_flow"]

#: Each promise that a model can keep by its name, which its function checks.
CHECKS = {**OF_MODELS, **OF_WORK}
#: What a flow may refuse, with a sentence.
ODD: list[Shape] = [(2, 3, 4), (0,)]


def check_flow(name: str, **settings: Any) -> None:
    """Check that a registered flow keeps what every flow promises.

    It is built plain and indexed, for vectors of 1, 2 and 5 numbers, or for small images of 1 and 3 channels, with
    settings that make it small where it has fields of such names (depth, hidden, …). What it refuses, it has to refuse
    with a `ConfigError` of one line that names it.

    - Densities and samples have their shapes and are finite; gradients reach every parameter.
    - The log-determinant is that of autograd; samples and densities belong to one another, there and back; draws can be
      differentiated. ∫ p(x) dx = 1 in the plane after some training, up to 1 %, or up to 5 % if indexed.
    - Training mode, single precision, copies, pickles, a loaded state and a GPU, if there is one, give the same.
    - A training step reads no number from the device, unless the flow is `adaptive`.
    - A checkpoint holds the weights and little else. Settings `norm` are followed, train and invert.

    Arguments:
        name: As in `flow=NAME`.
        settings: The flow's settings, as in `flow.KEY`; they override the small ones.

    Raises:
        AssertionError: A promise is broken. The message says which, where, and by how much.
        ConfigError: There is no such flow or setting, or its value is not allowed.
        TypeError: The name is no text.

    Example:
        >>> from cifrun.testing import check_flow
        >>> check_flow("planar", depth=1)
    """
    if not isinstance(name, str):
        raise TypeError(f"check_flow takes the name of a registered flow, and not {name!r}")
    family = Family(name, settings)
    hold(FAMILY_CHECKS.values(), family)
    for case in family.cases():
        hold((*CHECKS.values(), *GPU_CHECKS.values()), case)


# --- what needs no model ----------------------------------------------------------------------------------------------


def it_says_what_it_is(family: Family) -> None:
    """The first line of the docstring is a sentence, which the help shows."""
    first = (family.cls.__doc__ or "").strip().partition("\n")[0]
    made = first.startswith(f"{family.cls.__name__}(")  # by `dataclass`, for a class without one
    require(first.endswith((".", ")")) and not made, "its docstring should begin with a sentence that fills one line")


def it_is_defined_somewhere(family: Family) -> None:
    """For at least one of the shapes that are tried."""
    tried = ", ".join(map(str, SHAPES[family.cls.images] + LARGER[family.cls.images]))
    require(family.shapes(), f"it should be defined somewhere, but it refuses all of {tried}")


def it_builds_or_refuses_with_a_sentence(family: Family) -> None:
    """Steps for events of that shape, or a `ConfigError` of one line that names the flow."""
    flow = family.flow()
    for shape in (*SHAPES[False], *SHAPES[True], *ODD):
        refusal = f"it should refuse events of shape {shape} with a ConfigError of one line that names it"
        try:
            steps = flow.build(shape)
        except ConfigError as error:
            lines = str(error).splitlines()
            require(len(lines) == 1 and family.name in lines[0], f"{refusal}, but says: {' '.join(lines)}")
            continue
        except Exception as error:
            raise AssertionError(f"{refusal}, but raises a {type(error).__name__}") from error
        first = steps[0].shape
        require(first == shape, f"its first step should take events of shape {shape}, but takes {first}")
        require(
            all(len(step.describe().splitlines()) == 1 for step in steps), "each step's describe() should be one line"
        )


#: Each promise by its name, which its function checks.
FAMILY_CHECKS: dict[str, Callable[[Family], None]] = {
    check.__name__: check
    for check in (it_says_what_it_is, it_builds_or_refuses_with_a_sentence, it_is_defined_somewhere)
}
