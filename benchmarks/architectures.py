"""Which architectures a student can be cut from and distilled with: `python -m benchmarks.architectures [NAME ...]`.

Each is four layers of random weights. Layers 0,2 and 1,2 are taken out, and the student must say what its source says
without the other layers. Then a student of two layers (of all, where they cannot be taken out: *) is distilled for
three steps with each of four objectives. Prints a Markdown table, and below it why something is refused; exits with 1
where something fails in other words than a refusal.
"""

import logging
import os
import random
import sys
import tempfile
import traceback
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import transformers

from kd.base.console import hushed, one_line
from kd.base.types import UserError
from kd.config import DistillConfig
from kd.run import distill
from kd.run.data import load_rows
from kd.run.fit import learn
from kd.tasks.classification.options import ClassificationOptions
from tests import tiny
from tests.architectures import SHAPES, built

OBJECTIVES = ("soft", "hidden", "attention", "relation")
CUTS = ("0,2", "1,2")
RUN = SimpleNamespace(log_metrics=lambda *_, **__: None, log_params=lambda *_: None, log_table=lambda *_: None)


def write_rows(path: Path) -> str:
    """Write texts of three labels; returns the file."""
    draw, lines = random.Random(0), ["text,label"]  # noqa: S311
    for row in range(30):
        words = draw.choices(tiny.WORDS, k=draw.randint(4, 14))
        lines.append(f"{' '.join(words)} {chr(97 + row % 26)}{chr(97 + row // 26)},LABEL_{row % 3}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def write_model(folder: Path, name: str, seed: int) -> str:
    """Save an architecture with its tokenizer; returns the folder."""
    words = tiny.tokenizer()
    words.model_input_names = ["input_ids", "attention_mask"]
    words.eos_token = "[SEP]"  # noqa: S105
    built(name, seed).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def outcome(config: DistillConfig, reasons: dict[str, str], *, trained: bool) -> str:
    """Plan a distillation, and train it; returns works, or the number of the reason why not."""
    try:
        with hushed(), redirect_stderr(StringIO()), tempfile.TemporaryDirectory() as folder:
            plan = distill.plan(config, load_rows(config))
            if trained:
                learn(plan, config, RUN, Path(folder))
    except UserError as error:
        why = one_line(error)
    except Exception as error:
        traceback.print_exc()
        why = f"FAULT: {type(error).__name__}: {one_line(error)}"
    else:
        return "works"
    word = "fault" if why.startswith("FAULT") else "refused"
    return f"{word} {reasons.setdefault(why, str(len(reasons) + 1))}"


def line(name: str, folder: Path, dataset: str, reasons: dict[str, str]) -> str:
    """Return an architecture's line of the table."""
    place = folder / str(len(list(folder.iterdir())))
    teacher, other = (write_model(place / part, name, seed) for seed, part in enumerate(("teacher", "other")))
    config = DistillConfig(dataset=dataset, teacher=teacher, student_layers="2", objective="soft", precision="fp32",
                           epochs=1, batch_size=8, cache="off", experiment="none",
                           task_options=ClassificationOptions(max_length=32))  # fmt: skip
    cuts = [outcome(replace(config, student_layers=cut), reasons, trained=False) for cut in CUTS]
    star = ""
    if cuts[0] != "works":
        config, star = replace(config, student=other, student_layers=""), "*"
    trained = [outcome(replace(config, objective=one), reasons, trained=True) + star for one in OBJECTIVES]
    return f"| {' | '.join([name, *cuts, *trained])} |"


def main() -> int:
    """Print the table; returns the exit code."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    reasons: dict[str, str] = {}
    heads = ["architecture", *(f"layers {cut}" for cut in CUTS), *OBJECTIVES]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KD_HOME"] = f"{folder}/home"
        dataset, models = write_rows(Path(folder) / "rows.csv"), Path(folder) / "models"
        models.mkdir()
        for name in sys.argv[1:] or SHAPES:
            print(line(name, models, dataset, reasons), flush=True)
    print("\n" + "\n".join(f"{number}. {why.replace(folder, 'FOLDER')}" for why, number in reasons.items()))
    return int(any(why.startswith("FAULT") for why in reasons))


if __name__ == "__main__":
    sys.exit(main())
