"""The splits as model inputs, which teacher, student, trials and seeds share where their tokenizers are the same."""

from collections.abc import Sequence
from functools import partial
from importlib.metadata import version

import numpy as np
from transformers import PreTrainedTokenizerBase

from kd.base.hashing import fingerprint
from kd.base.types import SplitName, UserError
from kd.config import FitOptions
from kd.data.encoded import ArrowRows, encoded
from kd.models.load import tokenizer_digest
from kd.run.data import Rows
from kd.run.identity import code_digest

ENCODING_CODE = ("tasks", "data")
ENCODING_LIBRARIES = ("transformers", "tokenizers")


def encode(config: FitOptions, rows: Rows, name: SplitName, tokenizer: PreTrainedTokenizerBase) -> ArrowRows:
    """Return a split as the inputs of a model with this tokenizer; tokenised where nobody has done it before.

    Raises:
        UserError: a row has no token.
    """
    parts = {
        "rows": rows.digest(name),
        "task": fingerprint(rows.task.serving()),
        "tokenizer": tokenizer_digest(tokenizer),
        "max_length": str(config.max_length),
        "code": code_digest(ENCODING_CODE),
        "libraries": " ".join(map(version, ENCODING_LIBRARIES)),
    }
    about = {"data": config.dataset, "split": name}
    how = partial(rows.task.encode, tokenizer=tokenizer, max_length=config.max_length)
    found = encoded(rows.split(name), how, parts, about)
    empty = np.flatnonzero(np.asarray(found["length"]) == 0)
    if len(empty):
        raise UserError(
            f"{name} row {empty[0]} and {len(empty) - 1} others have no token: "
            "the tokenizer knows nothing of their text and marks no beginning; remove these rows or use another model"
        )
    return found


def sample(count: int, most: int, seed: int) -> Sequence[int]:
    """Return the positions of `most` of `count` rows, chosen by seed, rising; all of them where there are no more."""
    if count <= most:
        return list(range(count))
    return sorted(np.random.default_rng(seed).choice(count, most, replace=False).tolist())
