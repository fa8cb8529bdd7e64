"""The teacher's layers ranked by how far its validation loss moves without each of them."""

from functools import cache

import torch
from rich.table import Table
from transformers import PreTrainedModel

from kd.base.console import lay, say
from kd.base.hashing import fingerprint
from kd.config import StudentConfig
from kd.models.importance import Importance, measure, remembered
from kd.models.load import fit_together, load_tokenizer
from kd.run.data import Rows
from kd.run.encode import encode, sample
from kd.run.identity import code_digest, library_versions
from kd.run.locate import Located

MOST_ROWS = 1024
RANKING_CODE = ("tasks", "data", "models")


def moved(config: StudentConfig, rows: Rows, located: Located, teacher: PreTrainedModel) -> tuple[float, ...]:
    """Return how far the teacher's validation loss moves without each layer; measured once, then kept on disk.

    It is measured in float32 on all validation rows, or on 1,024 of them that `split_seed` chooses: whatever their
    seed, all students of a teacher start from the same layers.
    """
    chosen = sample(len(rows.splits.validation), MOST_ROWS, config.split_seed)

    def measured() -> Importance:
        tokenizer = load_tokenizer(located.folder, "teacher")
        fit_together(teacher, tokenizer, "teacher", config.max_length)
        teacher.to("cuda" if torch.cuda.is_available() else "cpu")
        encoded = encode(config, rows, "validation", tokenizer)
        return measure(teacher, encoded, chosen, rows.task.collate(tokenizer), rows.task.loss)

    parts = {
        "teacher": located.digest,
        "rows": rows.validation_digest,
        "chosen": fingerprint({"rows": chosen}),
        "task": fingerprint(rows.task.serving()),
        "max_length": str(config.max_length),
        "code": code_digest(RANKING_CODE),
        "libraries": fingerprint({"libraries": library_versions()}),
    }
    found = remembered(parts, measured)
    _tell(found, located.uri)
    return found.moved


@cache
def _tell(found: Importance, teacher: str) -> None:
    """Show the ranking, once a process: all seeds and arms ask for it."""
    say(f"Validation loss of {teacher} without each layer in turn ({found.loss:.4f} with all, {found.rows} rows):")
    table = Table()
    for name in ("layer (0-based)", "loss without it", "moved by"):
        table.add_column(name, justify="right")
    for layer, without in enumerate(found.without):
        table.add_row(str(layer), f"{without:.4f}", f"{without - found.loss:+.4f}")
    lay(table)
