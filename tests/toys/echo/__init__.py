"""The last word of a text is to be said again: a decoder answers by generation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from kd.base.types import Batch
from tests.toys.options import EchoOptions
from tests.toys.text import TextToy

NONE = -100
NEW = 6
"""Tokens that are generated at most."""


@dataclass(frozen=True)
class Echo(TextToy):
    """Text to text by a causal model; the loss is on the answer's tokens alone."""

    name: ClassVar[str] = "echo"
    directions: ClassVar = {"exact": True}
    bounds: ClassVar = {"exact": (0.0, 1.0)}
    slices: ClassVar = ("text_words",)
    spaces: ClassVar = {"default": {"learning_rate": {"type": "float", "low": 1e-3, "high": 1e-2, "log": True}}}
    objectives: ClassVar = EchoOptions.objectives
    per_token: ClassVar = True
    formats: ClassVar = ("safetensors",)
    inputs: ClassVar = ("text",)
    target: ClassVar = "answer"
    content: ClassVar = ("text", "answer")

    def kind(self):
        """The class."""
        from transformers import LlamaForCausalLM

        return LlamaForCausalLM

    def fitted(self, splits):
        """Nothing is learned from the rows."""
        return self

    def identity(self):
        """The name alone."""
        return {"task": {"task": self.name}}

    def encode(self, examples, processor):
        """[CLS] text [SEP] answer [SEP]; labels are the answer's tokens and the end."""
        from datasets import Dataset

        prompts = processor(examples["text"][:])["input_ids"]
        answers = [
            [] if one is None else processor(one, add_special_tokens=False)["input_ids"]
            for one in examples["answer"][:]
        ]
        ends = [[*answer, processor.sep_token_id] if answer else [] for answer in answers]
        ids = [[*prompt, *end] for prompt, end in zip(prompts, ends, strict=True)]
        return Dataset.from_dict(
            {
                "input_ids": ids,
                "labels": [[NONE] * len(p) + e for p, e in zip(prompts, ends, strict=True)],
                "prompt": [len(prompt) for prompt in prompts],
                "example": list(range(len(ids))),
                "length": [len(one) for one in ids],
            }
        )

    def collate(self, processor):
        """Pad on the right."""
        return partial(collate, pad=processor.pad_token_id)

    def masks(self, batch):
        """Positions are the tokens before each of the answer's."""
        labels = batch.truth["labels"]
        before = F.pad(labels[:, 1:] != NONE, (0, 1))
        return {"target": before, "positions": before, "tokens": batch.inputs["attention_mask"].bool()}

    def outputs(self, raw, batch):
        """`next`, `(positions, tokens)`."""
        return {"next": raw.logits[self.masks(batch)["positions"]]}

    def loss(self, raw, batch):
        """Cross-entropy of the next token."""
        where = self.masks(batch)["target"]
        wanted = F.pad(batch.truth["labels"][:, 1:], (0, 1), value=NONE)[where]
        return F.cross_entropy(raw.logits[where].float(), wanted, reduction="sum"), where.sum()

    def answer(self, model, batch):
        """Greedy generation after each prompt."""
        found = []
        for ids, prompt in zip(batch.inputs["input_ids"], batch.truth["prompt"].tolist(), strict=True):
            made = model.generate(ids[None, :prompt], attention_mask=torch.ones_like(ids[None, :prompt]),
                                  max_new_tokens=NEW, do_sample=False)  # fmt: skip
            found.append({"ids": made[0, prompt:].cpu().numpy()})
        return found

    def predictions(self, examples, records):
        """The answer's tokens, as far as the end; right where they are those of the truth."""
        from tests.tiny import tokenizer

        words = tokenizer()
        said = [words.decode(own["ids"], skip_special_tokens=True) for (own,) in records]
        return self._table(examples, said)

    @staticmethod
    def _table(examples, said):
        truth = examples["answer"][:]
        return pd.DataFrame(
            {
                "example_id": examples["example_id"][:],
                "group": examples["group"][:],
                "answer": said,
                "right": [float(one.strip() == own) for one, own in zip(said, truth, strict=True)],
                "text_words": [len(text.split()) for text in examples["text"][:]],
            }
        )

    @staticmethod
    def quality(predictions):
        """Share of exact answers."""
        return {"exact": float(predictions["right"].mean())}

    @staticmethod
    def example_values(predictions, metric):
        """Right or not."""
        return predictions["right"].to_numpy()

    def baselines(self, splits):
        """The first word of the text."""
        first = {
            name: self._table(examples, [text.split()[0] for text in examples["text"][:]])
            for name, examples in (("validation", splits.validation), ("test", splits.test))
        }
        yield "first word", first

    def requests(self, examples):
        """Texts."""
        return pd.DataFrame({"text": examples["text"][:]})

    def from_served(self, answers):
        """The answers as tokens again."""
        from tests.tiny import tokenizer

        words = tokenizer()
        return [[{"ids": np.array(words(one, add_special_tokens=False)["input_ids"])}] for one in answers["answer"]]

    @property
    def served(self):
        """The pyfunc."""
        return Path(__file__).with_name("served.py")

    def serving(self):
        """How long answers may be."""
        return {"task": self.name, "new": NEW}


def collate(features, pad):
    """Pad tokens and labels to the longest."""
    width = max(len(one["input_ids"]) for one in features)

    def padded(name, fill):
        return torch.tensor([[*np.asarray(one[name]).tolist(), *[fill] * (width - len(one[name]))] for one in features])

    ids = padded("input_ids", pad)
    lengths = torch.tensor([len(one["input_ids"]) for one in features])
    truth = {"labels": padded("labels", NONE), "prompt": torch.tensor([int(one["prompt"]) for one in features])}
    mask = (torch.arange(width) < lengths[:, None]).long()
    return Batch({"input_ids": ids, "attention_mask": mask}, truth, np.array([one["feature"] for one in features]))
