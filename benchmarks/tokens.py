"""What it costs to distil tokens with as many options as a vocabulary has: `python -m benchmarks.tokens [BLOCKS ...]`.

The tags toy of the tests, widened: blocks of 128 tokens, of which 15 % are compared, each over 30,522 options. Reports,
for each number of blocks, the peak memory of the training process, seconds, and what the cache takes on disk.
"""

import csv
import json
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import run
from typing import ClassVar

import numpy as np
import torch
from transformers import BertConfig, BertForTokenClassification

import tests.toys.register  # noqa: F401
from kd.commands import COMMANDS, start
from kd.tasks import TASKS, TaskEntry
from tests import tiny
from tests.toys.options import TagsOptions
from tests.toys.tags import NONE, Tags

TOKENS, OPTIONS, VALID_OF_20 = 128, 30_522, 3
WIDTH, LAYERS = 64, 4


@dataclass(frozen=True)
class Blocks(Tags):
    """Every word of a block has one of 30,522 tags; three words of twenty are compared."""

    name: ClassVar[str] = "blocks"
    window: ClassVar[int] = TOKENS

    def fitted(self, splits):
        """All tags."""
        return replace(self, tags=tuple(f"t{i}" for i in range(OPTIONS)))

    def identity(self):
        """How blocks are cut."""
        return {"task": {"task": self.name, "tags": OPTIONS, "window": self.window, "valid": VALID_OF_20}}

    def encode(self, examples, processor):
        """Keep the labels of words that are compared."""
        found = super().encode(examples, processor)
        kept = [[label if word % 20 < VALID_OF_20 else NONE for label, word in zip(*one, strict=True)]
                for one in zip(found["labels"][:], found["word"][:], strict=True)]  # fmt: skip
        return found.remove_columns("labels").add_column("labels", kept)

    def masks(self, batch):
        """Compare where there is a label."""
        return super().masks(batch) | {"positions": batch.truth["labels"] != NONE}

    def outputs(self, raw, batch):
        """`tag`, `(positions, 30,522)`."""
        return {"tag": raw.logits[batch.truth["labels"] != NONE]}


TASKS["blocks"] = TaskEntry(TagsOptions, f"{__spec__.name}:Blocks")


def write(folder: Path, blocks: int) -> list[str]:
    """Write rows and a teacher of random weights; returns the options that name them."""
    rows, weights = folder / "rows", folder / "teacher"
    rows.mkdir(parents=True)
    for split, count in (("train", blocks), ("validation", 8), ("test", 8)):
        draw = np.random.default_rng(len(split))
        with (rows / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "tags"])
            for _ in range(count):
                words = draw.choice(tiny.WORDS, TOKENS - 2)
                writer.writerow(
                    [" ".join(words), " ".join(f"t{tag}" for tag in draw.integers(OPTIONS, size=len(words)))]
                )
    torch.manual_seed(0)
    words = tiny.tokenizer()
    config = BertConfig(vocab_size=len(words), hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=2,
                        intermediate_size=4 * WIDTH, max_position_embeddings=TOKENS, num_labels=OPTIONS)  # fmt: skip
    BertForTokenClassification(config).save_pretrained(weights)
    words.save_pretrained(weights)
    return ["--dataset", str(rows), "--teacher", str(weights)]


def measure(blocks: int) -> None:
    """Distil once from a cache that is filled first, and print what it cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = ["--task", "blocks", *write(folder, blocks), "--student_layers", "2", "--objective", "soft"]
        given += ["--cache", "on", "--epochs", "1", "--batch_size", "8", "--patience", "0"]
        home = {"KD_HOME": str(folder / "home"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'runs.db'}"}
        command = [sys.executable, "-m", "benchmarks.tokens", "distill", *given]
        done = run(command, env=os.environ | home, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        import mlflow

        mlflow.set_tracking_uri(home["MLFLOW_TRACKING_URI"])
        (found,) = mlflow.search_runs(search_all_experiments=True, filter_string="tags.`kd.role` = 'distilled'",
                                      output_format="list")  # fmt: skip
        cache = sum(file.stat().st_size for file in (folder / "home").rglob("*.safetensors"))
        valid = blocks * sum(word % 20 < VALID_OF_20 for word in range(TOKENS - 2))
        cost = {name: value for name, value in found.data.metrics.items() if name.startswith("cost/")}
        print(json.dumps({"blocks": blocks, "bytes a valid position": round(cache / valid, 1), **cost}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        name = sys.argv.pop(1)
        start(name)
    else:
        for blocks in map(int, sys.argv[1:] or ("500", "1000", "2000")):
            measure(blocks)
