"""Which process this is, of those that run one training together, and what they agree on.

`torchrun` and `accelerate launch` set the environment that is read here, before torch is imported. Without it there is
one process. The main one alone writes to MLflow, to the registry and to what all share; it continues alone once the
training is done.
"""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from kd.base.types import Lost

T = TypeVar("T")
P = ParamSpec("P")
ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE")
"""What tells a process that it has peers."""
_making: list[bool] = []
"""Not empty while the main process makes a value for all: what it calls meanwhile is not shared again."""


def rank() -> int:
    """Return the number of this process among all of the training, on all machines, from 0: `RANK`."""
    return int(os.environ.get("RANK") or 0)


def world() -> int:
    """Return how many processes run the training, at least 1: `WORLD_SIZE`."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_main() -> bool:
    """Whether this process speaks for all: it is of rank 0."""
    return rank() == 0


def join() -> None:
    """Meet the other processes, where there are any: gloo without a GPU, nccl with."""
    if world() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())


def leave() -> None:
    """Part from the other processes: nothing is agreed on any more, and what this one starts has no peers."""
    if world() > 1:
        import torch

        torch.distributed.destroy_process_group()
        for name in ENVIRONMENT:
            os.environ.pop(name, None)


def from_main(make: Callable[[], T]) -> T:
    """Have the main process make a value, and return it in all; what it raises is raised in all. Raises Lost."""
    if world() == 1 or _making:
        return make()
    box: list[Any] = [None, None]  # broadcast, so that the main process waits for none that a signal has ended
    if is_main():
        _making.append(True)
        try:
            box[0] = make()
        except Exception as error:
            box[1] = error
        finally:
            _making.clear()
    _with_peers(lambda torch: torch.distributed.broadcast_object_list(box, src=0))
    if box[1] is not None:
        raise box[1]
    return box[0]  # type: ignore[no-any-return]


def shared(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function one that the main process alone carries out, for all."""

    @wraps(function)
    def once(*args: P.args, **kwargs: P.kwargs) -> T:
        return from_main(lambda: function(*args, **kwargs))

    return once


def from_all(value: T) -> list[T]:
    """Return each process's value, by rank. Raises Lost where one has ended."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    _with_peers(lambda torch: torch.distributed.all_gather_object(found, value))
    return found


def _with_peers(act: Callable[[Any], object]) -> None:
    import torch

    try:
        act(torch)
    except RuntimeError as error:
        raise lost(error) from error


def lost(error: RuntimeError) -> Lost:
    """Return the error of a process whose peers are gone; raises what is another error."""
    import torch

    known = isinstance(error, torch.distributed.DistError)
    if world() == 1 or not (known or any(word in str(error).lower() for word in ("gloo", "nccl", "by peer"))):
        raise error
    return Lost("another process of this training has ended: the same command continues from a checkpoint, if any")
