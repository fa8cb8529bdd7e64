"""What the two toys on text share: a tokenizer beside the weights, and an examples' frame."""

from pathlib import Path
from types import MappingProxyType

import torch

from kd.base.judge import CKA, Figure
from kd.base.types import UserError
from kd.models.load import load_tokenizer, tokenizer_digest


class Toy:
    """Rows are read as they are; all models start from weights, and are served whole by one file."""

    holds = MappingProxyType({})
    named = ()

    @property
    def scored(self):
        """All that is seen."""
        return self.content

    built = MappingProxyType({})
    shipped = None

    def parts(self, config):
        """One model for all rows."""
        return [config.task_options]

    def read(self, config):
        """Read the columns of inputs and target."""
        from kd.data.sources import load

        return load(config, self.inputs, self.target, self.holds)

    def read_inputs(self, config):
        """Read the inputs alone."""
        from kd.data.sources import load_inputs

        return load_inputs(config, self.inputs, self.holds)

    def make(self, name):
        """Make nothing by name."""
        raise KeyError(name)

    def condensed(self, model):
        """All of a model is served."""


class TextToy(Toy):
    """A task whose processor is a tokenizer; rows are examples."""

    balance = ""
    holds = MappingProxyType({"text": "text", "tags": "text", "answer": "text"})
    reads_tokens = True
    wide = ""
    pictures = ()
    outcomes = ("answer", "right")
    figures = (Figure("fidelity/same", "same answers", higher_is_better=True), CKA)

    @classmethod
    def from_options(cls, options):
        """Make the task; its columns have fixed names."""
        return cls()

    def examples(self, splits):
        """Rows are examples."""
        return splits

    def load(self, folder: Path, option: str, *, finished: bool):
        """Load weights and tokenizer."""
        try:
            model, loaded = self.kind().from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **self.heading()
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{option}: {folder.name} is no model that can be loaded") from error
        if finished and loaded["missing_keys"]:
            raise UserError(f"{option}: weights are missing in {folder.name}")
        return model, load_tokenizer(folder, option)

    def heading(self):
        """Settings of the head."""
        return {}

    def require_fit(self, model, processor, option):
        """Everything fits."""

    def processor_digest(self, processor):
        """All that the tokenizer would save."""
        return tokenizer_digest(processor)

    @staticmethod
    def diagnostics(validation, test):
        """Nothing is read as a probability."""
        return {}

    @staticmethod
    def churn(before, after):
        """Share of other answers."""
        return {"changed": float((before["answer"] != after["answer"]).mean())}

    @staticmethod
    def fidelity(student, teacher):
        """Share of the same answers."""
        return {"fidelity/same": float((student["answer"] == teacher["answer"]).mean())}

    @staticmethod
    def paired_test(ours, theirs):
        """The sign test of examples on which one is better."""
        from scipy.stats import binomtest

        gap = ours["right"].to_numpy() - theirs["right"].to_numpy()
        better, worse = int((gap > 0).sum()), int((gap < 0).sum())
        return "sign", float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
