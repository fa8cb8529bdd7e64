"""Text classification: one label from a closed set for a text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from kd.base.console import one_line, several, shown
from kd.base.task import Collate, Record
from kd.base.types import (
    Batch,
    Content,
    FormatName,
    Holds,
    MaskName,
    ObjectiveName,
    Splits,
    TaskName,
    Term,
    UserError,
)
from kd.models.tokens import content_of, padded, token_fill
from kd.tasks.classification import scores
from kd.tasks.classification.options import ClassificationOptions
from kd.tasks.classification.spaces import SPACES

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kd.config import RowOptions, TaskOptions


UNLABELLED = -100
"""Label of a feature without a label."""


@dataclass(frozen=True)
class Classification(scores.LabelJudge):
    """Text classification by a sequence-classification head.

    Attributes:
        text: column of the text.
        text_pair: column of the second text, or empty.
        target: column of the label.
        max_length: longest input in tokens; longer ones are truncated.
        labels: label names in the order of the model's logits; set by `fitted`.
    """

    text: str
    text_pair: str
    target: str
    max_length: int = 128
    labels: tuple[str, ...] = ()
    name: ClassVar[TaskName] = "classification"
    spaces: ClassVar[Mapping[str, Mapping[str, Any]]] = SPACES
    objectives: ClassVar[tuple[ObjectiveName, ...]] = ClassificationOptions.objectives
    per_token: ClassVar[bool] = False
    named: ClassVar[tuple[str, ...]] = ()
    reads_tokens: ClassVar[bool] = True
    formats: ClassVar[tuple[FormatName, ...]] = ("safetensors", "onnx", "onnx-int8")
    trusted = staticmethod(scores.trusted)

    @classmethod
    def from_options(cls, options: ClassificationOptions) -> Classification:
        """Make the task from its options."""
        return cls(options.text_column, options.text_pair_column, options.label_column, options.max_length)

    def parts(self, config: RowOptions) -> Sequence[TaskOptions]:
        """One model for all rows."""
        return [config.task_options]

    def read(self, config: RowOptions) -> Splits:
        """Read rows of texts and labels."""
        from kd.data.sources import load

        return load(config, self.inputs, self.target, self.holds)

    def read_inputs(self, config: RowOptions) -> Dataset:
        """Read texts alone."""
        from kd.data.sources import load_inputs

        return load_inputs(config, self.inputs, self.holds)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The text columns."""
        return (self.text, self.text_pair) if self.text_pair else (self.text,)

    @property
    def holds(self) -> Mapping[str, Holds]:
        """Texts, and a class."""
        return {**dict.fromkeys(self.inputs, "text"), self.target: "class"}

    @property
    def balance(self) -> str:
        """The label column."""
        return self.target

    def examples(self, splits: Splits) -> Splits:
        """Every row is an example."""
        return splits

    @property
    def content(self) -> tuple[str, ...]:
        """The text columns and the label."""
        return (*self.inputs, self.target)

    @property
    def scored(self) -> tuple[str, ...]:
        """All of it."""
        return self.content

    def identity(self) -> Mapping[str, Any]:
        """The input columns, the labels, and the length at which texts are truncated."""
        task = {"task": self.name, "inputs": list(self.inputs), "labels": list(self.labels)}
        return {"task": task, "max_length": self.max_length}

    def fitted(self, splits: Splits) -> Classification:
        """Learn the label names from train.

        Raises:
            UserError: fewer than two classes, values that do not look like classes, or a label that is not in train.
        """
        from datasets import ClassLabel

        from kd.data.columns import near_classes

        feature, named = splits.train.features[self.target], f"label_column={self.target!r}"
        seen = self._truth(splits.train)
        distinct = sorted(set(seen))
        if len(distinct) < 2:
            raise UserError(f"{named}: train has one class only ({shown(distinct[0])}); give data with at least two")
        if not self.labels and len(distinct) > max(20, len(seen) / 2):  # with known labels, a few rows may be used
            raise UserError(
                f"{named}: {len(distinct)} different values in {len(seen)} training rows are not classes (such as "
                f"{shown(distinct[0])}); give the name of the label's column"
            )
        for name, rows in (("validation", splits.validation), ("test", splits.test)):
            if unseen := sorted(set(self._truth(rows)) - set(distinct)):
                alike = "".join(f"; {note}" for note in near_classes([*distinct, *unseen], self.target))
                raise UserError(
                    f"{named}: {name} has labels that train lacks: {_listed(unseen)}; train has {_listed(distinct)}"
                    + alike
                )
        return replace(self, labels=tuple(feature.names if isinstance(feature, ClassLabel) else distinct))

    @property
    def built(self) -> Mapping[str, Any]:
        """A head, which the labels decide."""
        return {}

    def make(self, name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Make nothing by name."""
        raise KeyError(name)

    def load(self, folder: Path, option: str, *, finished: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Load weights with a head of this task's labels, and their tokenizer."""
        from kd.models.load import load_tokenizer

        model = self._model(folder, option, finished)
        tokenizer = load_tokenizer(folder, option)
        self.require_fit(model, tokenizer, option)
        return model, tokenizer

    def require_fit(self, model: PreTrainedModel, processor: PreTrainedTokenizerBase, option: str) -> None:
        """Make the two agree on the padding token; the model must have positions for `max_length` tokens."""
        from kd.models.load import fit_together, types_fit

        fit_together(model, processor, option, self.max_length)
        types_fit(model, processor(*["a"] * len(self.inputs)).get("token_type_ids", ()), option)

    def processor_digest(self, processor: PreTrainedTokenizerBase) -> str:
        """Return a digest of everything that the tokenizer would save."""
        from kd.models.load import tokenizer_digest

        return tokenizer_digest(processor)

    def _model(self, folder: Path, option: str, finished: bool) -> PreTrainedModel:
        import torch
        from transformers import AutoConfig, AutoModelForSequenceClassification

        from kd.models.folder import UNUSABLE, require_weights

        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            theirs = tuple(config.id2label[i] for i in range(config.num_labels))
            if finished and theirs != self.labels:
                raise UserError(
                    f"{option}: its labels are not the data's: the model knows {_listed(theirs)} "
                    f"({len(theirs)}), the data has {_listed(self.labels)} ({len(self.labels)}); "
                    "use a teacher trained on this data"
                )
            kind = partial(AutoModelForSequenceClassification.from_config, config, trust_remote_code=False)
            require_weights(kind, folder, option)
            loaded: tuple[PreTrainedModel, Any] = AutoModelForSequenceClassification.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                num_labels=len(self.labels),
                id2label=dict(enumerate(self.labels)),
                label2id={label: i for i, label in enumerate(self.labels)},
            )
        except UNUSABLE as error:
            raise UserError(f"{option}: {folder.name} is no model that can be loaded: {one_line(error)}") from error
        model, info = loaded
        absent = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
        if not finished:  # a new head is expected, and a pooler belongs to it
            absent = {key for key in absent if key.startswith(f"{model.base_model_prefix}.") and ".pooler." not in key}
        if absent:
            raise UserError(
                f"{option}: {len(absent)} weights of {type(model).__name__} are not in {folder.name} "
                f"(such as {min(absent)!r}); use a model that is whole"
            )
        return model

    def encode(self, examples: Dataset, processor: PreTrainedTokenizerBase) -> Dataset:
        """Tokenise, truncated to `max_length` tokens; labels become indices, and a missing label -100."""
        from datasets import Dataset

        encoded = dict(processor(*self._texts(examples), truncation=True, max_length=self.max_length))
        index: dict[str | None, int] = {None: UNLABELLED, **{label: i for i, label in enumerate(self.labels)}}
        encoded["labels"] = [index[name] for name in self._names(examples)]
        encoded["example"] = list(range(len(examples)))
        encoded["length"] = [len(ids) for ids in encoded["input_ids"]]
        return Dataset.from_dict(encoded)

    def collate(self, processor: PreTrainedTokenizerBase) -> Collate:
        """Pad to the longest of the batch."""
        left = processor.padding_side == "left"
        return partial(padded, fill=token_fill(processor), left=left, truth=("labels",))

    def masks(self, batch: Batch) -> Mapping[MaskName, torch.Tensor]:
        """`target` and `positions` are `(batch,)`, `tokens` is `(batch, length)`. Label -100 means unlabelled."""
        labelled = batch.truth["labels"] != UNLABELLED
        tokens = batch.inputs["attention_mask"].bool()
        return {"target": labelled, "positions": labelled.new_ones(labelled.shape), "tokens": tokens}

    def outputs(self, raw: Any, batch: Batch) -> Mapping[str, torch.Tensor]:
        """`logits`, `(batch, classes)`: each feature is one position."""
        return {"logits": raw.logits}

    def loss(self, raw: Any, batch: Batch) -> Term:
        """Cross-entropy in nats of logits `(batch, classes)`, summed over labelled features."""
        import torch.nn.functional as F

        labels = batch.truth["labels"]
        total = F.cross_entropy(raw.logits.float(), labels, reduction="sum", ignore_index=UNLABELLED)
        return total, (labels != UNLABELLED).sum()

    def answer(self, model: Any, batch: Batch) -> list[Record]:
        """`logits`, `(classes,)`, of one forward."""
        return [{"logits": row} for row in model(**batch.inputs).logits.float().cpu().numpy()]

    def explained(self, batch: Batch, processor: PreTrainedTokenizerBase) -> Content:
        """All tokens but special ones."""
        return content_of(batch, processor)

    def decided(self, raw: Any) -> torch.Tensor:
        """The most probable class."""
        decided: torch.Tensor = raw.logits.argmax(dim=-1)
        return decided

    def evidence(self, raw: Any, decided: torch.Tensor) -> torch.Tensor:
        """Log-probability in nats of the class: unlike a logit, it leaves out what all classes have in common."""
        known: torch.Tensor = raw.logits.float().log_softmax(dim=-1)
        return known.gather(-1, decided.unsqueeze(-1)).squeeze(-1)

    def condensed(self, model: Any) -> None:
        """All of a model is served."""

    def predictions(self, examples: Dataset, records: Sequence[Sequence[Record]]) -> pd.DataFrame:
        """One line an example; `score:<label>` are softmax probabilities, `words` is for slices."""
        probabilities = scores.softmax(np.stack([own["logits"] for (own,) in records]))
        words = [len(text.split()) for text in self._joined(examples)]
        return scores.frame(examples, self._truth(examples), self.labels, probabilities).assign(words=words)

    def baselines(self, splits: Splits) -> Iterator[tuple[str, dict[str, pd.DataFrame]]]:
        """The majority class, and a bag-of-words logistic regression."""
        from kd.tasks.classification.baselines import classifiers

        for name, model in classifiers().items():
            model.fit(self._joined(splits.train), self._truth(splits.train))
            places = [self.labels.index(label) for label in model.classes_]
            tables = {}
            for split, rows in (("validation", splits.validation), ("test", splits.test)):
                probabilities = np.zeros((len(rows), len(self.labels)))
                probabilities[:, places] = model.predict_proba(self._joined(rows))
                tables[split] = scores.frame(rows, self._truth(rows), self.labels, probabilities)
            yield name, tables

    def requests(self, examples: Dataset) -> pd.DataFrame:
        """One text column, or the two text columns under their names."""
        return pd.DataFrame({column: examples[column][:] for column in self.inputs})

    def from_served(self, answers: pd.DataFrame) -> list[list[Record]]:
        """Log-probabilities `(classes,)`: softmax gives the served probabilities back."""
        probabilities = [[each[label] for label in self.labels] for each in answers["probabilities"]]
        return [[{"logits": row}] for row in np.log(np.maximum(probabilities, scores.TINY))]

    @property
    def served(self) -> Path:
        """The file of the pyfunc."""
        return Path(__file__).with_name("served.py")

    @property
    def shipped(self) -> None:
        """No code beside the pyfunc."""
        return None

    def serving(self) -> dict[str, Any]:
        """The text columns' names, needed for pairs, the labels, and the length at which texts are truncated."""
        return {**self.identity()["task"], "max_length": self.max_length}

    def _joined(self, rows: Dataset) -> list[str]:
        return [" ".join(texts) for texts in zip(*self._texts(rows), strict=True)]

    def _texts(self, rows: Dataset) -> list[list[str]]:
        """Return each input column, read in one go: row by row takes twenty times as long."""
        return [rows[column][:] for column in self.inputs]

    def _truth(self, rows: Dataset) -> list[str]:
        return [str(name) for name in self._names(rows)]

    def _names(self, rows: Dataset) -> list[str | None]:
        """Return the label of each row; None where it has none."""
        from kd.data.columns import names_of

        return [None if name is None else str(name) for name in names_of(rows, self.target)]


def _listed(labels: Sequence[str]) -> str:
    return several([shown(label) for label in labels], 8)
