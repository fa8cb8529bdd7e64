"""Callbacks of a training: reports, the progress bar, and an orderly stop."""

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transformers import ProgressCallback, TrainerCallback

from kd.base.ranks import world
from kd.base.types import UserError
from kd.training.sampler import LengthGroups


@dataclass(frozen=True)
class Reporter(TrainerCallback):
    """Reports what the Trainer logs under this project's names; stops on a loss that is not finite.

    Attributes:
        report: takes (metrics, step).
        sampler: gets the epoch.
    """

    report: Callable[[dict[str, float], int], None]
    sampler: LengthGroups

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the sampler's epoch."""
        self.sampler.epoch = int(state.epoch or 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        """Report; UserError where the loss is not finite."""
        if not math.isfinite(logs.get("loss", 0.0)):
            raise UserError(
                f"training diverged: the loss is {logs['loss']} at step {state.global_step}; "
                "lower learning_rate, raise warmup_ratio or give precision=fp32"
            )
        named = {f"val/{key.removeprefix('eval_')}": value for key, value in logs.items() if key.startswith("eval_")}
        if "loss" in logs:
            named |= {f"train/{key}": value for key, value in logs.items() if key != "epoch"}
        if named:
            self.report(named, state.global_step)


class Progress(ProgressCallback):
    """The progress bar, with the title and the last validation metric; numbers go to the tracking store."""

    def __init__(self, title: str, metric: str) -> None:
        """Show `title`, and the validation metric `metric`."""
        super().__init__()
        self.title = title
        self.metric = metric

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar."""
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description(self.title)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        """Show the validation metric."""
        value = logs.get(f"eval_{self.metric}")
        if value is not None and self.training_bar is not None:
            self.training_bar.set_postfix_str(f"val {self.metric} {value:.3f}")

    def close(self) -> None:
        """End the bar's line, also after an error, so that the next message starts a line."""
        if self.training_bar is not None:
            self.training_bar.close()


class Stopper(TrainerCallback):
    """Ends a training with a checkpoint after a signal, in all its processes at the same step.

    Attributes:
        asked: set when this process receives a signal.
        agreed: of several processes, whether one had received a signal before this step.
        stopped: whether the training was ended.
    """

    def __init__(self, agree: Callable[[bool], bool]) -> None:
        """Start without a signal; `agree` says of a flag whether it is true in any process."""
        self.agree = agree
        self.asked = threading.Event()
        self.agreed = self.stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save and stop within an epoch."""
        wanted = self.agreed if world() > 1 else self.asked.is_set()
        if wanted and state.epoch % 1:
            control.should_save = True
            control.should_training_stop = self.stopped = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop; the checkpoint is saved already within an epoch, and next at its end."""
        if not self.stopped and not self.agree(self.asked.is_set()):
            return
        control.should_training_stop = self.stopped = True
        if state.epoch % 1:  # a validation within an epoch would enter the choice of the best checkpoint
            control.should_evaluate = control.should_save = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch SIGTERM and Ctrl-C while training; only the main thread receives them."""
        here = threading.current_thread() is threading.main_thread()
        names = (signal.SIGTERM, signal.SIGINT) if here else ()
        former = {name: signal.signal(name, lambda *_: self.asked.set()) for name in names}
        try:
            yield
        finally:
            for name, handler in former.items():
                signal.signal(name, handler)
