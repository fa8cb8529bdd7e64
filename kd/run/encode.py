"""The splits as features, shared by teacher, student, trials and seeds whose processors are the same."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import TypeAlias

import numpy as np

from kd.base.hashing import fingerprint
from kd.base.task import Processor
from kd.base.types import SplitName, UserError
from kd.config import RowOptions
from kd.data.encoded import ArrowRows, encoded
from kd.run.code import code_digest
from kd.run.data import Rows

ENCODING_CODE = ("data", "models")
ENCODING_LIBRARIES = ("transformers", "tokenizers")
FeaturesOf: TypeAlias = Callable[[SplitName], ArrowRows]
"""Returns a split as features."""


def encoder(config: RowOptions, rows: Rows, processor: Processor) -> FeaturesOf:
    """Return a function that gives a split as features of this processor, each encoded once, when it is first needed.

    That function raises UserError where an example has no token.
    """
    task = rows.task
    shared = {
        "task": fingerprint(task.identity()),
        "processor": task.processor_digest(processor),
        "code": code_digest(task, ENCODING_CODE),
        "libraries": " ".join(map(version, ENCODING_LIBRARIES)),
    }

    @cache
    def features(name: SplitName) -> ArrowRows:
        parts, about = {**shared, "rows": rows.digest(name)}, {"data": config.dataset, "split": name}
        found = encoded(rows.split(name), lambda part: task.encode(part, processor), parts, about)
        empty = np.flatnonzero(np.asarray(found["length"]) == 0)
        if len(empty):
            raise UserError(
                f"{name} row {found['example'][empty[0]]} and {len(empty) - 1} others have no token: "
                "the tokenizer knows no word of their text and adds none; remove these rows or use another model"
            )
        return found

    return features


def sample(count: int, most: int, seed: int) -> Sequence[int]:
    """Return the positions of at most `most` of `count` features, chosen by seed, in rising order."""
    if count <= most:
        return list(range(count))
    return sorted(np.random.default_rng(seed).choice(count, most, replace=False).tolist())
