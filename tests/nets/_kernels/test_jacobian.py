"""Values and Jacobians of SiLU networks: the hand-written pass against autograd, in every situation it is used in."""

import threading
from itertools import pairwise

import pytest
import torch
from torch.func import jacrev, vmap
from torch.nn import functional as F

from cifrun.nets._kernels import jacobian as tangents
from cifrun.nets._kernels import silu
from cifrun.nets._kernels.jacobian import value_and_tangents


def network(*sizes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()  # noqa: E731
    return [draw(b, a) for a, b in pairwise(sizes)], [draw(b) for b in sizes[1:]]


def evaluate(x, weights, biases):
    h = F.linear(x, weights[0], biases[0])
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        h = F.linear(F.silu(h), weight, bias)
    return h


SIZES = [(1, 3, 1), (2, 5, 4, 2), (3, 7, 5, 6, 3), (5, 4, 4, 2)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("grad", [True, False])
def test_value_and_jacobian(sizes, grad):
    weights, biases = network(*sizes)
    x = torch.randn(6, sizes[0], dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        value, columns = value_and_tangents(x, weights, biases)
    torch.testing.assert_close(value, evaluate(x, weights, biases))
    torch.testing.assert_close(columns.permute(1, 2, 0), vmap(jacrev(lambda v: evaluate(v, weights, biases)))(x))


@pytest.mark.parametrize("sizes", SIZES)
def test_gradient(sizes):
    weights, biases = network(*sizes)
    x = torch.randn(4, sizes[0], dtype=torch.float64, requires_grad=True)
    n = len(weights)
    assert torch.autograd.gradcheck(lambda x, *p: value_and_tangents(x, p[:n], p[n:]), (x, *weights, *biases))


def test_nothing_is_read_from_memory_that_was_not_written(monkeypatch):
    """On a GPU each buffer is new memory of any content; here it is of NaN."""
    monkeypatch.setattr(silu, "_buffer", lambda name, like, shape: like.new_full(shape, float("nan")))
    weights, biases = network(2, 8, 7, 2)
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    inputs = (x, *weights, *biases)
    assert torch.autograd.gradcheck(lambda x, *p: value_and_tangents(x, p[:3], p[3:]), inputs)
    with torch.no_grad():
        value, columns = value_and_tangents(x, weights, biases)
    torch.testing.assert_close(value, evaluate(x, weights, biases))
    assert columns.isfinite().all()


def test_the_plain_formulas_are_the_same():
    weights, biases = network(2, 16, 16, 2)
    x = torch.randn(9, 2, dtype=torch.float64)
    for a, b in zip(value_and_tangents(x, weights, biases), tangents._plain(x, weights, biases), strict=True):
        torch.testing.assert_close(a, b)


def test_many_data_are_gone_through_in_parts(monkeypatch):
    weights, biases = network(2, 8, 7, 2)
    x = torch.randn(23, 2, dtype=torch.float64)
    with torch.no_grad():
        expected = value_and_tangents(x, weights, biases)
        for size in (1, 3 * 8 * 5, 3 * 8 * 23):  # at most one, five, or all of the data
            monkeypatch.setattr(silu, "PASS", size)
            for a, b in zip(value_and_tangents(x, weights, biases), expected, strict=True):
                torch.testing.assert_close(a, b)
        assert value_and_tangents(x[:0], weights, biases)[1].shape == (2, 0, 2)


def test_two_graphs_alive_at_once_do_not_disturb_each_other():
    weights, biases = network(2, 8, 8, 2)
    x, y = torch.randn(2, 5, 2, dtype=torch.float64)
    first, second = (value_and_tangents(v, weights, biases) for v in (x, y))
    together = [torch.autograd.grad(t[1].sum() + t[0].sum(), weights) for t in (second, first)]
    alone = []
    for v in (y, x):
        value, columns = value_and_tangents(v, weights, biases)
        alone.append(torch.autograd.grad(columns.sum() + value.sum(), weights))
    for a, b in zip(together, alone, strict=True):
        for g, h in zip(a, b, strict=True):
            torch.testing.assert_close(g, h)


def test_results_are_not_overwritten_by_the_next_call():
    weights, biases = network(2, 8, 8, 2)
    x, y = torch.randn(2, 5, 2, dtype=torch.float64)
    with torch.no_grad():
        value, columns = value_and_tangents(x, weights, biases)
        before = value.clone(), columns.clone()
        value_and_tangents(y, weights, biases)
    assert torch.equal(value, before[0]) and torch.equal(columns, before[1])


def test_threads_have_buffers_of_their_own():
    weights, biases = network(2, 32, 32, 2)
    xs = torch.randn(4, 200, 2, dtype=torch.float64)
    truth = [evaluate(x, weights, biases) for x in xs]
    wrong = []

    def work(x, value):
        for _ in range(50):
            with torch.no_grad():
                if not torch.allclose(value_and_tangents(x, weights, biases)[0], value):
                    wrong.append(1)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(xs, truth, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_inference_mode_and_training_take_turns():
    weights, biases = network(2, 8, 8, 2)
    x = torch.randn(5, 2, dtype=torch.float64)
    with torch.inference_mode():
        value_and_tangents(x, weights, biases)
    value, columns = value_and_tangents(x, weights, biases)
    torch.autograd.grad(value.sum() + columns.sum(), weights)
    with torch.inference_mode():
        torch.testing.assert_close(value_and_tangents(x, weights, biases)[0], value.detach())
