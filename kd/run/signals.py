"""A finished teacher's outputs, shared by every student."""

from dataclasses import dataclass
from functools import cache, cached_property

import pandas as pd
import torch

from kd.base.files import home
from kd.base.hashing import fingerprint
from kd.base.types import OUTPUTS, SplitName
from kd.config import StudentConfig
from kd.evaluation.predict import answers
from kd.models.precision import autocast_dtype, resolve_precision
from kd.run.data import Rows
from kd.run.encode import FeaturesOf, encoder
from kd.run.identity import teaching_code
from kd.run.locate import Loaded
from kd.teacher.run import TeacherPass
from kd.teacher.signal import TeacherSignal, Wanted, teacher_signal
from kd.teacher.tables import kept_table

TOKENS_CPU, TOKENS_CUDA = 2048, 2**17
"""Most tokens in a forward of the teacher, padding included. On a CPU more are slower: features pad one another, and
layers outgrow the processor's cache. On a GPU it is halved until it fits."""
BATCH = 64
"""Features in a forward where the teacher answers."""


@dataclass(frozen=True)
class TeacherSignals:
    """A teacher's outputs on a training's splits, computed where they are first needed and kept on disk.

    Outputs for training have the training's precision; predictions are float32, as is served.
    """

    config: StudentConfig
    rows: Rows
    teacher: Loaded

    def train(self, contents: tuple[str, ...] = (OUTPUTS,)) -> TeacherSignal:
        """Return the teacher's outputs over the training features, from disk or by running it over them once."""
        precision = resolve_precision(self.config.precision)
        autocast, features, task = autocast_dtype(precision), self._features("train"), self.rows.task
        collate, tokens = task.collate(self.teacher.processor), TOKENS_CUDA if torch.cuda.is_available() else TOKENS_CPU

        @cache
        def reading() -> TeacherPass:
            return TeacherPass(self.teacher.on_device(), features, collate, task, contents, autocast, tokens)

        left = getattr(self.teacher.processor, "padding_side", "right") == "left"
        about = self._about("train", precision)
        wanted = Wanted(self._key("train", precision), len(features), contents, about, left)
        return teacher_signal(wanted, reading, self.config.cache, self.config.cache_budget_gib)

    def predictions(self, name: SplitName) -> pd.DataFrame:
        """Return the teacher's predictions on a split, from disk or by running it once."""

        def made() -> pd.DataFrame:
            task = self.rows.task
            collate = task.collate(self.teacher.processor)
            found = answers(self.teacher.on_device(), self._features(name), collate, task.answer, BATCH)
            return task.predictions(self.rows.split(name), found)

        if self.config.cache == "off":
            return made()
        return kept_table(home() / "predictions", self._key(name, "fp32"), made, self._about(name, "fp32"))

    @cached_property
    def _features(self) -> FeaturesOf:
        return encoder(self.config, self.rows, self.teacher.processor)

    def _about(self, name: SplitName, precision: str) -> dict[str, str]:
        uri, data = self.teacher.located.uri, self.config.dataset
        return {"teacher": uri, "data": data, "split": name, "precision": precision}

    def _key(self, name: SplitName, precision: str) -> str:
        task, processor = self.rows.task, self.teacher.processor
        return fingerprint(
            {
                "teacher": self.teacher.located.digest,
                "rows": self.rows.digest(name),
                "task": fingerprint(task.identity()),
                "processor": task.processor_digest(processor),
                "precision": precision,
                "code": teaching_code(task),
            }
        )
