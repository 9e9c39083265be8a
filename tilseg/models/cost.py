"""How much there is to compute, and how fast this machine multiplies matrices.

Together they bound the rate of a network: a convolution is a matrix product, and no library
multiplies faster inside one than outside.
"""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from tilseg.card import Card
from tilseg.model import Precision
from tilseg.models.network import DTYPES, build

# Side of the matrices: large enough that more gives no higher rate.
_SIDE = {"cpu": 2048, "cuda": 8192}


def operations(card: Card, rows: int, cols: int) -> int:
    """Floating-point operations, two a multiplication and addition, of one input of a legal size.

    Of convolutions, plain and transposed, and matrix products; the rest is not counted.
    """
    network = build(card, card.name).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.empty(1, card.bands, rows, cols, device="meta"))
    return int(counter.get_total_flops())


def operations_per_pixel(card: Card) -> float:
    """Operations a pixel of a tile without end, where no context is computed twice.

    The cost of an input of side n is a n^2 + b n + c for a network of convolutions: this is a.
    """
    network = build(card, card.name)
    step = 8 * network.field.stride
    first = network.field.input_for(5 * step)
    costs = [operations(card, first + k * step, first + k * step) for k in range(3)]
    return (costs[2] - 2 * costs[1] + costs[0]) / (2 * step**2)


def matrix_rate(device: str, precision: Precision, threads: int, seconds: float) -> float:
    """Operations a second of the product of two large square matrices; the fastest found.

    device: "cpu" or "cuda:0". threads: CPU threads. seconds: to try for, at least three times.
    """
    side = _SIDE[torch.device(device).type]
    one = torch.randn(side, side, device=device)
    one = one.mul(40).to(torch.int8) if precision == "int8" else one.to(DTYPES[precision])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        times = [_time_of_product(one)]
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 3:
            times.append(_time_of_product(one))
    finally:
        torch.set_num_threads(before)
    return 2 * side**3 / min(times)


def _time_of_product(one: torch.Tensor) -> float:
    began = time.perf_counter()
    found = _product(one)
    # A device works behind our back; taking a number from it waits.
    found[0, 0].item()
    return time.perf_counter() - began


def _product(one: torch.Tensor) -> torch.Tensor:
    """A square matrix by its transpose, as fast as this torch can."""
    if one.dtype == torch.int8:
        return torch._int_mm(one, one.T)
    mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if one.device.type != "cpu" or one.dtype != torch.float32 or not mkldnn:
        return one @ one.T
    # By the library of convolutions. Behind `@` is another one, which has 106 GFLOP/s on a
    # processor of AMD where this one has 240.
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(one, one, None, "none", [], "")
    return found
