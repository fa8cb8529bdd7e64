"""Data and tiny random weights for the toys."""

import csv
import math
import random
from pathlib import Path

import torch
from transformers import BertConfig, BertForTokenClassification, LlamaConfig, LlamaForCausalLM

from tests import tiny
from tests.toys.series.served import SeriesModel

SPLITS = (("train", 40), ("validation", 16), ("test", 16))
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
}


def weights(task: str, folder: Path) -> str:
    """Write random weights of four layers, and a tokenizer where there is one; returns the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tiny.tokenizer()
        if task == "series":
            model = SeriesModel(BertConfig(**SMALL, num_labels=2))
        elif task == "tags":
            model = BertForTokenClassification(BertConfig(**SMALL, vocab_size=len(words), num_labels=2))
        else:
            ids = {"pad_token_id": words.pad_token_id, "eos_token_id": words.sep_token_id, "bos_token_id": 2}
            model = LlamaForCausalLM(LlamaConfig(**SMALL, vocab_size=len(words), **ids))
    model.save_pretrained(folder)
    if task != "series":
        words.save_pretrained(folder)
    return str(folder)


def rows(task: str, folder: Path) -> str:
    """Write train, validation and test; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate(SPLITS):
        draw = random.Random(f"{task} {seed}")
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            (_series if task == "series" else _texts)(writer, draw, split, count, task)
    return str(folder)


def _series(writer, draw, split, count, task):
    writer.writerow(["series", "step", "value"])
    for number in range(max(count // 8, 3)):
        start, slope = draw.uniform(0, 6), draw.uniform(0.5, 0.9)
        for step in range(18):
            value = math.sin(start + slope * step) + draw.gauss(0, 0.05)
            writer.writerow([f"{split}-{number}", step, f"{value:.5f}"])


def _texts(writer, draw, split, count, task):
    writer.writerow(["text", "tags" if task == "tags" else "answer"])
    for row in range(count):
        words = draw.choices(tiny.WORDS, k=draw.randint(3, 14 if task == "tags" else 5))
        words[0] = "".join(chr(97 + (row // 26**i) % 26) for i in range(2)) + chr(97 + len(split))  # distinct texts
        tags = ["long" if len(word) > 4 else "short" for word in words]
        writer.writerow([" ".join(words), " ".join(tags) if task == "tags" else words[-1]])
