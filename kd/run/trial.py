"""A model is tried on a few rows before anything is trained, so that what cannot work is said first."""

from collections.abc import Mapping

import numpy as np
import torch
from transformers import PreTrainedModel

from kd.base.console import one_line
from kd.base.task import Processor
from kd.base.types import Batch, UserError
from kd.models.folder import UNUSABLE
from kd.models.students import require_kept
from kd.run.data import Rows

AMONG = 16


def trial_batch(rows: Rows, processor: Processor) -> Batch:
    """Return a batch of one feature: the longest of the first sixteen validation examples."""
    examples = rows.splits.validation
    features = rows.task.encode(examples.select(range(min(AMONG, len(examples)))), processor)
    longest = int(np.argmax(features["length"]))
    return rows.task.collate(processor)([{**features[longest], "feature": longest}])


def outputs(model: PreTrainedModel, rows: Rows, batch: Batch) -> Mapping[str, torch.Tensor]:
    """Return what the task reads of a model's answer to a batch."""
    there = batch.to(model.device)
    return rows.task.outputs(model(**there.inputs), there)


def require_works(model: PreTrainedModel, processor: Processor, rows: Rows, option: str) -> None:
    """Check that a model takes what its processor makes of the rows, and can be saved and read again.

    Raises UserError, naming the option, where it does not.
    """
    batch, was_training = trial_batch(rows, processor), model.training
    try:
        with torch.inference_mode():
            outputs(model.eval(), rows, batch)
    except UNUSABLE as error:
        given = ", ".join(batch.inputs)
        raise UserError(
            f"{option}: {type(model).__name__} cannot be run on what its own processor makes of the rows ({given}): "
            f"{one_line(error)}; use a model whose processor fits it"
        ) from error
    model.train(was_training)
    require_kept(model, option)
