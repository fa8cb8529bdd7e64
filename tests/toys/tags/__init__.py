"""Every word of a text gets a tag, in overlapping windows: several features an example, outputs of tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from kd.base.types import Batch
from kd.models.tokens import token_fill
from tests.toys.options import TagsOptions
from tests.toys.text import TextToy

NONE = -100


@dataclass(frozen=True)
class Tags(TextToy):
    """Token classification by BERT; the first piece of a word is scored, all are distilled."""

    tags: tuple[str, ...] = ()
    name: ClassVar[str] = "tags"
    window: ClassVar[int] = 8
    stride: ClassVar[int] = 3
    directions: ClassVar = {"right": True}
    bounds: ClassVar = {"right": (0.0, 1.0)}
    slices: ClassVar = ("words",)
    spaces: ClassVar = {"default": {"learning_rate": {"type": "float", "low": 1e-3, "high": 1e-2, "log": True}}}
    objectives: ClassVar = TagsOptions.objectives
    per_token: ClassVar = True
    formats: ClassVar = ("safetensors",)
    inputs: ClassVar = ("text",)
    target: ClassVar = "tags"
    content: ClassVar = ("text", "tags")

    def kind(self):
        """The class."""
        from transformers import BertForTokenClassification

        return BertForTokenClassification

    def heading(self):
        """A label a tag."""
        return {"num_labels": len(self.tags), "id2label": dict(enumerate(self.tags)),
                "label2id": {tag: i for i, tag in enumerate(self.tags)}, "ignore_mismatched_sizes": True}  # fmt: skip

    def fitted(self, splits):
        """The tags of train."""
        return replace(self, tags=tuple(sorted({tag for tags in splits.train["tags"][:] for tag in tags.split()})))

    def identity(self):
        """The tags, and how texts are cut."""
        return {"task": {"task": self.name, "tags": list(self.tags), "window": self.window, "stride": self.stride}}

    def encode(self, examples, processor):
        """Cut into windows of pieces, of which `stride` are in the next one too."""
        from datasets import Dataset

        words = [text.split() for text in examples["text"][:]]
        cut = processor(words, is_split_into_words=True, truncation=True, max_length=self.window,
                        stride=self.stride, return_overflowing_tokens=True)  # fmt: skip
        index = {tag: i for i, tag in enumerate(self.tags)}
        targets = examples["tags"][:]
        table = {"input_ids": cut["input_ids"], "attention_mask": cut["attention_mask"], "labels": [], "word": []}
        owners = [int(one) for one in cut["overflow_to_sample_mapping"]]
        for feature, example in enumerate(owners):
            pieces = [-1 if word is None else word for word in cut.word_ids(feature)]
            own = targets[example]
            tags = own.split() if own is not None else None
            first = [word >= 0 and (i == 0 or pieces[i - 1] != word) for i, word in enumerate(pieces)]
            table["word"].append(pieces)
            table["labels"].append([index[tags[word]] if tags and start else NONE
                                    for word, start in zip(pieces, first, strict=True)])  # fmt: skip
        table |= {"example": owners, "length": [len(ids) for ids in cut["input_ids"]]}
        return Dataset.from_dict(table)

    def collate(self, processor):
        """Pad on the right."""
        return partial(collate, fill={**token_fill(processor), "labels": NONE, "word": -1})

    def masks(self, batch):
        """All pieces of words are positions."""
        return {"target": batch.truth["labels"] != NONE, "positions": batch.truth["word"] >= 0,
                "tokens": batch.inputs["attention_mask"].bool()}  # fmt: skip

    def outputs(self, raw, batch):
        """`tag`, `(pieces, tags)`."""
        return {"tag": raw.logits[batch.truth["word"] >= 0]}

    def loss(self, raw, batch):
        """Cross-entropy at first pieces."""
        labels = batch.truth["labels"]
        total = F.cross_entropy(raw.logits.float().flatten(0, 1), labels.flatten(), reduction="sum", ignore_index=NONE)
        return total, (labels != NONE).sum()

    def answer(self, model, batch):
        """The words that begin in a window, and their tags."""
        best = model(**batch.inputs).logits.argmax(dim=-1).cpu().numpy()
        words = batch.truth["word"].cpu().numpy()
        found = []
        for own, tags in zip(words, best, strict=True):
            first = (own >= 0) & (np.concatenate([[-2], own[:-1]]) != own)
            found.append({"word": own[first], "tag": tags[first]})
        return found

    def predictions(self, examples, records):
        """One line an example: the share of its words that are tagged rightly; of two windows the first counts."""
        lines = []
        for text, truth, windows in zip(examples["text"][:], examples["tags"][:], records, strict=True):
            found: dict[int, int] = {}
            for window in windows:
                for word, tag in zip(window["word"].tolist(), window["tag"].tolist(), strict=True):
                    found.setdefault(word, tag)
            tags = [self.tags[found[word]] for word in range(len(text.split()))]
            right = np.mean([tag == own for tag, own in zip(tags, truth.split(), strict=True)])
            lines.append({"answer": " ".join(tags), "right": float(right), "words": len(tags)})
        ids = {name: examples[name][:] for name in ("example_id", "group")}
        return pd.DataFrame(ids).join(pd.DataFrame(lines))

    @staticmethod
    def quality(predictions):
        """Mean share of right tags."""
        return {"right": float(predictions["right"].mean())}

    @staticmethod
    def example_values(predictions, metric):
        """Shares."""
        return predictions["right"].to_numpy()

    def baselines(self, splits):
        """The most frequent tag."""
        counts = Counter(tag for tags in splits.train["tags"][:] for tag in tags.split())
        most = self.tags.index(counts.most_common(1)[0][0])
        tables = {}
        for name in ("validation", "test"):
            examples = getattr(splits, name)
            lengths = [len(text.split()) for text in examples["text"][:]]
            records = [[{"word": np.arange(n), "tag": np.full(n, most)}] for n in lengths]
            tables[name] = self.predictions(examples, records)
        yield "most frequent tag", tables

    def requests(self, examples):
        """Texts."""
        return pd.DataFrame({"text": examples["text"][:]})

    def from_served(self, answers):
        """Tags of all words."""
        index = {tag: i for i, tag in enumerate(self.tags)}
        tags = [[index[tag] for tag in own.split()] for own in answers["tags"]]
        return [[{"word": np.arange(len(own)), "tag": np.array(own)}] for own in tags]

    @property
    def served(self):
        """The pyfunc."""
        return Path(__file__).with_name("served.py")

    def serving(self):
        """How texts are cut."""
        return {"task": self.name, "window": self.window, "stride": self.stride}


def collate(features, fill):
    """Pad every list to the longest."""
    width = max(len(one["input_ids"]) for one in features)
    parts = {}
    for name in ("input_ids", "attention_mask", "labels", "word"):
        rows = [[*np.asarray(one[name]).tolist(), *[fill[name]] * (width - len(one[name]))] for one in features]
        parts[name] = torch.tensor(rows)
    inputs = {name: parts[name] for name in ("input_ids", "attention_mask")}
    truth = {name: parts[name] for name in ("labels", "word")}
    return Batch(inputs, truth, np.array([one["feature"] for one in features]))
