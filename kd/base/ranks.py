"""Which process this is, of those that run one training together.

`torchrun` and `accelerate launch` set the environment that is read here, before torch is imported. Without it there is
one process. The main one alone writes to MLflow, to the registry and to what all share.
"""

import os


def rank() -> int:
    """Return the number of this process among all of the training, on all machines, from 0: `RANK`."""
    return int(os.environ.get("RANK") or 0)


def local_rank() -> int:
    """Return the number of this process among those of this machine, from 0: `LOCAL_RANK`."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def world() -> int:
    """Return how many processes run the training, at least 1: `WORLD_SIZE`."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def is_main() -> bool:
    """Whether this process speaks for all: it is of rank 0."""
    return rank() == 0
