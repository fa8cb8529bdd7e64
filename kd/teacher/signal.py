"""The teacher as a signal: its outputs over a fixed data set, computed once and then read from disk.

`KD_HOME/signals/KEY/CONTENTS` contains shards. The key is a hash of everything the outputs depend on. Only damaged
shards are computed again. Where nothing can be cached, the teacher runs on every batch instead, with a warning.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from kd.base.files import home, locked, warn_once
from kd.base.hashing import fingerprint
from kd.base.types import OUTPUTS, CacheName, LayerContent, LayerKind, TeacherOutputs, TopLogProbs, UserError
from kd.teacher.cache.index import Teacher, plan, read_index, write_index
from kd.teacher.cache.reader import Reader
from kd.teacher.cache.shard import Piece
from kd.teacher.cache.use import Use
from kd.teacher.cache.writer import clear, fill, planning, shard_files, size_of

GIB = 2**30
CONTENTS = "contents"
"""Key of the kept contents in `Index.about`."""


@dataclass(frozen=True)
class Wanted:
    """Outputs that are wanted from a teacher.

    Attributes:
        key: hash of everything they depend on.
        features: number of features in the data set.
        contents: `outputs`, and `hidden.3`, `attention.3` or `relation.3` of layer 3, say.
        about: teacher, data and split, for people who look at the cache.
        left: whether shorter features are padded on the left, as the processor does.
    """

    key: str
    features: int
    contents: tuple[str, ...] = (OUTPUTS,)
    about: Mapping[str, str] = field(default_factory=dict)
    left: bool = False


@dataclass
class TeacherSignal:
    """The teacher's outputs for any features of one data set: from disk, or by running it on them.

    Attributes:
        wanted: which outputs.
        teacher: loads the teacher.
        reader: of the cache; None where the teacher runs on every batch.
        computed: number of features that the teacher ran over to fill the cache; 0 where it was complete.
        online: why the teacher runs on every batch; empty where the cache is read. Beside other rows and without the
            cache's rounding its outputs differ a little.
        again: opens the cache anew, computing what is missing, where its files are gone.
    """

    wanted: Wanted
    teacher: Callable[[], Teacher]
    reader: Reader | None = None
    computed: int = 0
    online: str = ""
    again: Callable[[], Reader] | None = None
    _noted: Callable[[str], object] = lambda _: None

    def watched(self, noted: Callable[[str], object]) -> None:
        """Have `noted` called with the reason, now or later, where the teacher runs on every batch."""
        self._noted = noted
        if self.online:
            noted(self.online)

    def __call__(self, features: np.ndarray, device: torch.device | None = None) -> TeacherOutputs:
        """Return the teacher's outputs for the features at these positions `(batch,)`, on `device` or on the CPU."""
        layers: dict[str, dict[int, torch.Tensor]] = {kind: {} for kind in get_args(LayerKind)}
        parts: dict[str, torch.Tensor] = {}
        for name, pieces in self._pieces(features).items():
            if (content := LayerContent.parse(name)) is None:
                parts[name.removeprefix(f"{OUTPUTS}.")] = _in_a_row(pieces).to(device or "cpu")
            else:
                layers[content.kind][content.layer] = _padded(pieces, self.wanted.left).to(device or "cpu")
        return TeacherOutputs(_named_outputs(parts), **layers)

    def all_outputs(self) -> Mapping[str, np.ndarray]:
        """Return the task's outputs of all features, by name: `(positions, ...)` float32.

        Raises UserError where only the most probable of many options are known.
        """
        found = self(np.arange(self.wanted.features)).outputs
        known = {name: values.numpy() for name, values in found.items() if isinstance(values, torch.Tensor)}
        if len(known) < len(found):
            raise UserError(
                "the teacher's answer has too many options to keep them all, and transfer_confidence and "
                "transfer_balance need all of them: leave both out"
            )
        return known

    def _pieces(self, features: np.ndarray) -> dict[str, list[Piece]]:
        if self.reader is not None:
            try:
                return self.reader.read(features)
            except OSError as error:
                self.reader = self._reopened(error)
        if self.reader is not None:
            return self.reader.read(features)
        found: dict[str, list[Piece]] = {}
        for part in self.teacher()(features):
            for name, each in part.items():
                pieces = found.setdefault(name, [])
                pieces += [Piece(slice(at, at + 1), one[None]) for at, one in enumerate(each, start=len(pieces))]
        return found

    def _reopened(self, error: OSError) -> Reader | None:
        """Return a reader of the same outputs, of which those whose files are gone have been computed again."""
        gone = f"teacher cache {self.wanted.key} is gone ({error.strerror})"
        if self.again is not None:
            warn_once(f"{gone}: the teacher computes again what is missing")
            try:
                return self.again()
            except (OSError, NotImplementedError) as failure:
                gone = f"{gone} and not written again ({reason_of(failure)})"
        warn_once(f"{gone}: the teacher runs on every batch")
        self.online = gone
        self._noted(gone)
        return None


def reason_of(error: Exception) -> str:
    """Return why something failed, without a path."""
    return str(getattr(error, "strerror", None) or error)


def _named_outputs(parts: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor | TopLogProbs]:
    """Combine the parts of a distribution over many options: `NAME.values`, `.indices`, `.tail`."""
    found: dict[str, torch.Tensor | TopLogProbs] = {}
    for name, values in parts.items():
        plain = name.removesuffix(".values")
        if plain != name:
            found[plain] = TopLogProbs(values, parts[f"{plain}.indices"].long(), parts[f"{plain}.tail"])
        elif "." not in name:
            found[name] = values
    return found


def _in_a_row(pieces: Sequence[Piece]) -> torch.Tensor:
    """Concatenate features' positions, `(positions, ...)`, in the features' order; always a copy."""
    first = pieces[0].whole
    counts = torch.zeros(sum(len(piece.values) for piece in pieces), dtype=torch.int64)
    for piece in pieces:
        counts[piece.places] = piece.values.shape[1]
    starts = counts.cumsum(0) - counts
    result = torch.empty((int(counts.sum()), *first.shape[2:]), dtype=first.dtype, device=first.device)
    for piece in pieces:
        places = starts[piece.places].unsqueeze(1) + torch.arange(piece.values.shape[1])
        result[places.reshape(-1)] = piece.whole.reshape(-1, *first.shape[2:])
    return result


def _padded(pieces: Sequence[Piece], left: bool) -> torch.Tensor:
    """Stack features in their order, padded with 0 to the longest; always a copy."""
    shapes = {piece.values.shape[1:] for piece in pieces}
    size = (sum(len(piece.values) for piece in pieces), *map(max, zip(*shapes, strict=True)))
    made = torch.zeros if len(shapes) > 1 else torch.empty
    result = made(size, dtype=torch.float32, device=pieces[0].values.device)
    for piece in pieces:
        ends = zip(piece.values.shape[1:], size[1:], strict=True)
        where = (piece.places, *(slice(full - own, None) if left else slice(own) for own, full in ends))
        placed = isinstance(piece.places, slice)  # without a copy in between
        result[where] = piece.values if placed else piece.whole
        if placed and piece.scales is not None:
            result[where].mul_(piece.scales)
    return result


def teacher_signal(
    wanted: Wanted, teacher: Callable[[], Teacher], mode: CacheName = "auto", budget_gib: float = float("inf")
) -> TeacherSignal:
    """Open the teacher's outputs; those that are not on disk are first computed and kept, where that is possible.

    `teacher` loads it, which is not needed where all outputs are on disk. Mode `off` neither reads nor writes them,
    `auto` keeps them within the budget, `on` at any size.
    """
    if mode == "off":
        warn_once("cache=off: the teacher runs on every batch")
        return TeacherSignal(wanted, teacher, online="cache=off")
    folder = folder_of(wanted)
    budget_gib = budget_gib if mode == "auto" else float("inf")

    def again() -> Reader:
        return _written(folder, wanted, teacher, budget_gib)[0]

    if (reader := _whole(wanted)) is not None:
        return TeacherSignal(wanted, teacher, reader, again=again)
    try:
        return TeacherSignal(wanted, teacher, *_written(folder, wanted, teacher, budget_gib), again=again)
    except (OSError, NotImplementedError) as error:
        warn_once(f"teacher cache not written to {folder} ({error}): the teacher runs on every batch")
        return TeacherSignal(wanted, teacher, online=f"teacher cache not written ({reason_of(error)})")


def folder_of(wanted: Wanted) -> Path:
    """Return where these outputs are kept."""
    contents = fingerprint({"contents": sorted(wanted.contents)})[:12]
    return home() / "signals" / wanted.key / contents


def _whole(wanted: Wanted) -> Reader | None:
    """Return a reader of these outputs, kept alone or with others of the same teacher and data, if all are whole."""
    own, asked = folder_of(wanted), {*wanted.contents}
    for folder in [own, *sorted({*own.parent.glob("*/")} - {own})]:
        try:
            use = Use(folder)
        except OSError:  # there is none, or it is being removed
            continue
        index = read_index(folder)
        if index is None or len(index.places) != wanted.features or not asked <= {*index.about[CONTENTS].split(",")}:
            continue
        whole, _ = shard_files(index)
        if len(whole) == index.shards:
            with suppress(OSError):
                os.utime(folder)  # for people and `prune`: last used
            of = {name: {name, name.partition(".")[0]} for name in index.half}  # `outputs.logits` is of `outputs`
            return Reader(index, whole, [name for name in of if of[name] & asked], use)
    return None


def _written(folder: Path, wanted: Wanted, teacher: Callable[[], Teacher], budget_gib: float) -> tuple[Reader, int]:
    """Compute what is missing, and open it; also returns the number of features computed here. Raises OSError."""
    with locked(planning(folder)):
        if (reader := _whole(wanted)) is not None:  # another process has written it meanwhile
            return reader, 0
        index = read_index(folder)
        if planned := index is None or len(index.places) != wanted.features:
            index = plan(folder, teacher(), {**wanted.about, CONTENTS: ",".join(wanted.contents)})
        size, free = f"its {index.size / GIB:.3g} GiB are more than", shutil.disk_usage(folder.parent).free
        if index.size > budget_gib * GIB:
            raise OSError(f"{size} cache_budget_gib={budget_gib:g}")
        if index.size - size_of(folder) > free:
            raise OSError(f"{size} the {free / GIB:.3g} GiB that are free")
        if planned:
            write_index(index)
        use = Use(folder)  # nobody prunes what is being filled
        clear(index)
    title = f"teacher on {wanted.about['split']}" if "split" in wanted.about else ""
    with closing(use):
        computed = fill(index, teacher(), title)
        reader = _whole(wanted)
    if reader is None:
        raise OSError("it is not whole: another process gave up, or the disk fails")
    return reader, computed
