"""Count a PyTorch model's parameters and the operations of a request."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

PRODUCTS = {"mm", "mv", "addmv", "dot", "linear", "conv", "convolution", "rnn", "attention", "attn"}

COUNTED = 16
"""Requests whose operations are counted for `model/gflops`."""


def gflops(forward: Callable[[], object]) -> float | None:
    """Return the 1e9 floating-point operations of one forward pass, a multiply-add counting as two.

    Matrix products and convolutions are counted, as torch's `FlopCounterMode` does; pointwise operations are not.
    Torch has no count for fused attention on CPU nor for the encoder's fast path, so both are switched off meanwhile;
    attention then counts all positions, masked or not. Call it after profiling: the plain kernels take more memory.

    Returns:
        None where nothing was counted (not a torch model), or where the sum would be too low because torch cannot count
        an operation that ran (int8 layers, recurrent layers, other attention kernels).
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode, flop_registry

    missed = False

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal missed
            words = set(func.name().split("::")[1].replace(".", "_").split("_"))
            missed |= func.overloadpacket not in flop_registry and not words.isdisjoint(PRODUCTS)
            return func(*args, **(kwargs or {}))

    watch = Watch()  # type: ignore[no-untyped-call]
    was_on = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # the counter is innermost and splits composite operations, so the watch sees the operations that run
        with sdpa_kernel(SDPBackend.MATH), watch, FlopCounterMode(display=False) as counter:
            forward()
    finally:
        torch.backends.mha.set_fastpath_enabled(was_on)
    return None if missed or counter.get_total_flops() == 0 else counter.get_total_flops() / 1e9


def counted(model: Any, forwards: Sequence[Callable[[], Any]]) -> dict[str, float]:
    """Count a PyTorch model's parameters, and the mean operations of a request where all could be counted."""
    work = [gflops(forward) for forward in forwards]
    known = [each for each in work if each is not None]
    figures = {"model/parameters": float(sum(weight.numel() for weight in model.parameters()))}
    return figures | ({"model/gflops": fmean(known)} if len(known) == len(work) else {})
