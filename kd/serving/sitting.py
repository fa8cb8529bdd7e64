"""Measure logged models in one sitting: each in a fresh process, timed in turn, so that drift is the same for all."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil

from kd import tracking
from kd.base.budgets import FITS_DEVICE, Device, budgets_of, fits, fits_device
from kd.base.disk import SAID, temporary
from kd.base.types import DiskFull, UserError
from kd.serving.profile import ROUNDS
from kd.serving.seat import Measured

AT_ONCE = 8
"""Most models in memory at a time; further ones are measured after them."""
FOR_LIBRARIES, FOR_WEIGHTS = 2**30, 2
"""Bytes that a process takes beside its model, and how often it may have the weights in memory while it loads."""

LEAVING_S = 5
"""Seconds that a process has to end by itself."""


def is_profiled(metrics: Mapping[str, float]) -> bool:
    """Whether a run's model has been measured, on any machine."""
    return "profile/latency_ms_p50" in metrics


def measure_in_turn(models: Mapping[str, str], budgets: object = None) -> None:
    """Profile logged models, given by the run that takes the figures, and log them.

    Raises:
        UserError: a model or its store cannot be used.
        RuntimeError: profiling failed for another reason.
    """
    for run_id, measured in zip(models, in_turn(list(models.values())), strict=True):
        log(tracking.Run(run_id), measured, budgets)


def in_turn(uris: Sequence[str]) -> Iterator[Measured]:
    """Profile logged models, in as few sittings as memory allows, and yield what was found when a sitting is over.

    The rounds of all models of a sitting take turns. A model whose rounds were disturbed, because the machine was busy,
    has its rounds once more.

    Raises:
        UserError: a model or its store cannot be used.
        RuntimeError: profiling failed for another reason.
    """
    size = _at_once(uris)
    for start in range(0, len(uris), size):
        yield from _measured(uris[start : start + size])


def log(run: tracking.Run, measured: Measured, budgets: object = None) -> dict[str, bool]:
    """Log a measurement into a run, in place of any other; returns what `judge` does.

    A figure that an earlier measurement had and this one has not becomes NaN, which reads as absent: those that a run
    has are all of one measurement. What the earlier one was said to fit is removed.
    """
    former = tracking.record(run.run_id)
    stale = {name: float("nan") for name in former.metrics if name.startswith("profile/")}
    run.remove_tags([name for name in former.tags if name.startswith("kd.fits_")])
    run.set_tags(measured.tags)
    verdicts = judge(run, measured.metrics, budgets)
    run.log_metrics({**stale, **measured.metrics})  # last: a run that has them has been measured
    return verdicts


def judge(run: tracking.Run, metrics: Mapping[str, float], budgets: object) -> dict[str, bool]:
    """Tag a run with which budgets and devices its model fits; return that, by each as a person reads it."""
    verdicts = fits(metrics, budgets_of(budgets))
    devices: Mapping[str, Device] = getattr(budgets, "named_devices", {})
    judged = {name: found for name, device in devices.items() if (found := fits_device(metrics, device))}
    tags = {f"kd.fits_{name}": str(fit).lower() for name, fit in verdicts.items()}
    run.set_tags(tags | {f"{FITS_DEVICE}{name}": f"{str(fit).lower()}: {said}" for name, (fit, said) in judged.items()})
    named = {f"{name}, {said}": fit for name, (fit, said) in judged.items()}
    return {f"{name} budget": fit for name, fit in verdicts.items()} | named


def _measured(uris: Sequence[str]) -> list[Measured]:
    """Measure models side by side, in turn."""
    with _seated(uris) as seats:
        for seat in seats:
            seat.answer()
        disturbed = _timed(seats)
        for seat in disturbed:
            seat.say("again")
        _timed(disturbed)
        return [Measured(**seat.ask("finish")) for seat in seats]


def _timed(seats: Sequence["_Process"]) -> list["_Process"]:
    """Have all rounds timed, those of one model between those of the others; returns which of them were disturbed."""
    quiet: dict[_Process, bool] = {}
    for _ in range(ROUNDS):
        for seat in seats:
            quiet[seat] = seat.ask("round")["quiet"]
    return [seat for seat in seats if not quiet[seat]]


class _Process:
    """A process that measures one model, and waits while others do."""

    def __init__(self, uri: str, errors: IO[str]) -> None:
        places = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._errors = errors
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kd.serving.seat", uri],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def say(self, word: str) -> None:
        """Send a line; one to a process that has ended is lost, and its answer is what says so."""
        assert self._process.stdin is not None
        try:
            print(word, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return

    def ask(self, word: str) -> dict[str, Any]:
        """Send a line, and wait for its answer."""
        self.say(word)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for an answer; raises UserError, DiskFull or RuntimeError where the process ended instead."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return dict(json.loads(line))
        code = self._process.wait()
        self._errors.seek(0)
        last = ([line for line in self._errors.read().splitlines() if line.strip()] or ["no message"])[-1]
        if code == 2 and SAID.search(last):
            raise DiskFull(last.removeprefix("error: "))
        if code == 2:
            raise UserError(last.removeprefix("error: "))
        raise RuntimeError(f"profiling failed (exit code {code}): {last}")

    def end(self) -> None:
        """End the process, which ends by itself and removes its temporary files where it is at its turn."""
        try:
            self._process.communicate(timeout=LEAVING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._errors.close()


@contextmanager
def _seated(uris: Sequence[str]) -> Iterator[list[_Process]]:
    """Start a process for each model; all have ended afterwards."""
    seats: list[_Process] = []
    with temporary() as folder:
        try:
            for number, uri in enumerate(uris):
                errors = (folder / str(number)).open("w+", encoding="utf-8", errors="replace")
                seats.append(_Process(uri, errors))
            yield seats
        finally:
            for seat in seats:
                seat.end()


def _at_once(uris: Sequence[str]) -> int:
    """Return how many models can be in memory at a time: at least one, and few enough for RAM and GPU memory."""
    need = FOR_LIBRARIES + FOR_WEIGHTS * max(map(tracking.size_of, uris), default=0)
    return max(min(AT_ONCE, _free() // need), 1)


def _free() -> int:
    """Return the bytes of RAM that are free, or of the GPU's memory where that is less."""
    free, torch = int(psutil.virtual_memory().available), sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()  # of what was trained here
        free = min(free, torch.cuda.mem_get_info()[0])
    return free
