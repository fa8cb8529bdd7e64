"""Rank the teacher's layers by how far its validation loss moves without each of them."""

from functools import cache

import torch
from rich.table import Table

from kd.base.console import say
from kd.base.hashing import fingerprint
from kd.config import StudentConfig
from kd.models.importance import Importance, measure, remembered
from kd.run.data import Rows
from kd.run.encode import encoder, sample
from kd.run.identity import code_digest, library_versions
from kd.run.plan import Teacher

MOST_FEATURES = 1024
RANKING_CODE = ("data", "models")


def moved(config: StudentConfig, rows: Rows, teacher: Teacher) -> tuple[float, ...]:
    """Return how far the teacher's validation loss moves without each layer; measured once, then kept on disk.

    It is measured in float32 on all validation features, or on 1,024 of them that `split_seed` chooses, so that
    students of all seeds start from the same layers.
    """
    features = encoder(config, rows, teacher.processor)("validation")
    chosen = sample(len(features), MOST_FEATURES, config.split_seed)

    def measured() -> Importance:
        model = teacher.model.to("cuda" if torch.cuda.is_available() else "cpu")
        return measure(model, features, chosen, rows.task.collate(teacher.processor), rows.task.loss)

    parts = {
        "teacher": teacher.located.digest,
        "rows": rows.validation_digest,
        "chosen": fingerprint({"features": chosen}),
        "task": fingerprint(rows.task.identity()),
        "code": code_digest(rows.task, RANKING_CODE),
        "libraries": fingerprint({"libraries": library_versions()}),
    }
    found = remembered(parts, measured)
    _show(found, teacher.located.uri)
    return found.moved


@cache
def _show(found: Importance, teacher: str) -> None:
    """Show the ranking, once a process: all seeds and arms use it."""
    say(f"Validation loss of {teacher} without each layer in turn ({found.loss:.4f} with all; {found.rows} features):")
    table = Table()
    for name in ("layer (0-based)", "loss without it", "moved by"):
        table.add_column(name, justify="right")
    for layer, without in enumerate(found.without):
        table.add_row(str(layer), f"{without:.4f}", f"{without - found.loss:+.4f}")
    say(table)
