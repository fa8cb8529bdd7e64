"""The teacher once over the training rows and nothing else: what no distillation without a cache can do without.

python -m benchmarks.peers.teacher_pass FOLDER --precision fp32|bf16

Rows are tokenised and sorted by length before the clock starts; as many tokens a forward as kd takes.
"""

import argparse
import time
from functools import partial
from typing import Any

import torch
from transformers import DataCollatorWithPadding

from benchmarks.peers.common import DEVICE, Trained, Trio, Workload, autocast, load_models, measure

TOKENS = 8192


def batches(workload: Workload, trio: Trio) -> list[list[dict[str, Any]]]:
    """Cut the tokenised rows, longest first, into batches of at most TOKENS tokens with padding."""
    ids = sorted(trio.tokenizer(workload.texts, truncation=True, max_length=workload.max_length)["input_ids"], key=len)
    found = []
    while ids:
        count = max(TOKENS // len(ids[-1]), 1)
        found.append([{"input_ids": each} for each in ids[-count:]])
        del ids[-count:]
    return found


def infer(workload: Workload, trio: Trio, scratch: str, precision: str) -> Trained:
    """Run the teacher over all rows."""
    pad, rows, ready = DataCollatorWithPadding(trio.tokenizer), 0, batches(workload, trio)
    started = time.perf_counter()
    with torch.inference_mode(), autocast(precision):
        for batch in ready:
            rows += len(trio.teacher(**pad(batch).to(DEVICE)).logits.float().cpu())
    return Trained(0, 0, rows, started)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    options = parser.parse_args()
    workload = Workload.load(options.folder)
    measure(partial(infer, precision=options.precision), workload, load_models(workload))


if __name__ == "__main__":
    main()
