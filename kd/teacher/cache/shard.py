"""One file of the teacher's cache: the outputs of some rows, without padding.

A shard is a kept file (`kd.base.files`) in the safetensors format. For each content it has `NAME` (all rows' values,
one row after the other), `NAME.shape` `(rows, axes)` and, in half precision, `NAME.scale` `(rows,)`.
"""

import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from kd.base import files

SUFFIX = ".safetensors"
DTYPES = {"F32": "<f4", "F16": "<f2", "I32": "<i4", "I64": "<i8", "U32": "<u4", "U8": "u1"}
UNREADABLE = (OSError, ValueError, KeyError, SafetensorError)
"""What is raised where a file does not exist, is damaged, or has not the notes that it should have."""
LARGEST = 24
"""Rows with a value of 2^24 or more are kept in float32, because a value near 1 beside it would be lost."""


@dataclass(frozen=True)
class Piece:
    """Rows of one shape: `values` `(places, ...)`, to be multiplied by `scales`, at `places` among the rows read."""

    places: slice | np.ndarray
    values: torch.Tensor
    scales: torch.Tensor | None = None

    @property
    def whole(self) -> torch.Tensor:
        """The values in float32; integers as they are."""
        values = self.values.float() if self.values.is_floating_point() else self.values
        return values if self.scales is None else values * self.scales


@dataclass(frozen=True)
class Packed:
    """One content of several rows; those of one length are adjacent.

    Attributes:
        values: all rows' values, flat; float16 values are to be multiplied by the row's scale.
        shapes: `(rows, axes)`, int32.
        scales: `(rows,)`, float32, powers of two; None where values are not scaled.
    """

    values: np.ndarray
    shapes: np.ndarray
    scales: np.ndarray | None

    def take(self, rows: np.ndarray, places: np.ndarray) -> Iterator[Piece]:
        """Yield copies of these rows, those of one shape together; `places` are theirs among all that is read."""
        starts, blocks = self._blocks
        which = np.searchsorted(starts, rows, side="right") - 1
        for block in np.unique(which):
            at = np.flatnonzero(which == block)
            values = torch.from_numpy(blocks[block].take(rows[at] - starts[block], axis=0))
            scales = None
            if self.scales is not None:
                scales = torch.from_numpy(self.scales[rows[at]]).view(-1, *[1] * (values.dim() - 1))
            first, last = int(places[at[0]]), int(places[at[-1]])
            together = last - first == len(at) - 1  # as in a batch sorted by length
            yield Piece(slice(first, last + 1) if together else places[at], values, scales)

    @cached_property
    def _blocks(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """The first row of each block of rows of one shape, and the blocks `(rows of it, ...)`: views, not scaled."""
        changes = (self.shapes[1:] != self.shapes[:-1]).any(axis=1)
        starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
        counts = np.diff([*starts, len(self.shapes)])
        shapes = self.shapes[starts].astype(np.int64)
        pieces = np.split(self.values, np.cumsum(counts * shapes.prod(axis=1))[:-1])
        blocks = zip(pieces, counts, shapes.tolist(), strict=True)
        return starts, [piece.reshape(count, *shape) for piece, count, shape in blocks]


def pack(rows: Sequence[torch.Tensor], half: bool) -> Packed:
    """Concatenate rows, tensors of as many axes, on their device, and copy them to the CPU in one transfer.

    With `half` each row is divided by the power of two that brings its greatest value into [2^14, 2^15). So a value v
    is read back as v (1 + e), |e| <= 2^-11, as long as |v| >= 2^-29 of the row's greatest; smaller ones within 2^-40 of
    the greatest. bf16 values of that range (8 bits) are read back exactly. Infinity and NaN are kept. Where a row has a
    value of 2^24 or more all are float32; integers are int32.
    """
    shapes = np.array([tuple(row.shape) for row in rows], dtype=np.int32).reshape(len(rows), -1)
    if half:
        exponents = torch.frexp(_greatest(rows)).exponent.clamp(min=-100)
        if int(exponents.max()) <= LARGEST:
            scales = torch.ldexp(torch.ones(len(rows)), exponents - 15)
            flat = torch.empty(sum(row.numel() for row in rows), dtype=torch.float16, device=rows[0].device)
            divided = torch._foreach_mul(list(rows), (1 / scales).tolist())
            torch.cat([row.reshape(-1) for row in divided], out=flat)
            return Packed(flat.cpu().numpy(), shapes, scales.numpy())
    flat = torch.cat([row.reshape(-1) for row in rows])
    return Packed(flat.to(torch.float32 if flat.is_floating_point() else torch.int32).cpu().numpy(), shapes, None)


def _greatest(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the greatest finite magnitude in each row, `(rows,)` float32; one pass where all values are finite."""
    if all(row.numel() for row in rows):
        found = torch.stack(torch._foreach_norm(list(rows), float("inf"))).float().cpu()
        if found.isfinite().all():
            return found
    finite = [row.nan_to_num(0, 0, 0).abs().reshape(-1) for row in rows]
    return torch.stack([row.max() if row.numel() else row.new_zeros(()) for row in finite]).float().cpu()


def joined(parts: Sequence[Packed]) -> Packed:
    """Concatenate packed rows; where some are in full precision, all are."""
    shapes = np.concatenate([part.shapes for part in parts])
    scales = [part.scales for part in parts if part.scales is not None]
    if len(scales) == len(parts):
        return Packed(np.concatenate([part.values for part in parts]), shapes, np.concatenate(scales))
    return Packed(np.concatenate([_whole(part) for part in parts]), shapes, None)


def _whole(part: Packed) -> np.ndarray:
    """Return values that need no scale."""
    if part.scales is None:
        return part.values
    whole: np.ndarray = part.values * np.repeat(part.scales, part.shapes.astype(np.int64).prod(axis=1))
    return whole


def write(folder: Path, label: str, tensors: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> Path:
    """Write `LABEL-CHECKSUM.safetensors` atomically; only the caller writes this label. Raises OSError."""
    content = save(dict(tensors), metadata=dict(notes))
    return files.write(folder, label, SUFFIX, lambda path: path.write_bytes(content))


def looks_whole(path: Path) -> bool:
    """Whether a file has the length that its header gives; its values are not read."""
    with suppress(*UNREADABLE):
        notes_of(path)
        return True
    return False


def notes_of(path: Path) -> dict[str, str]:
    """Return the notes of a file. Raises one of UNREADABLE."""
    with safe_open(path, framework="numpy") as file:
        return dict(file.metadata() or {})


def mapped(path: Path) -> tuple[dict[str, np.ndarray], mmap.mmap]:
    """Map a file's tensors into memory, read-only; pages are read when touched. Raises one of UNREADABLE.

    `safe_open` reads only the header: its tensors are copies, and its pages stay this process's memory as long as it is
    open. The pages mapped here can be released.
    """
    with safe_open(path, framework="numpy") as file:
        slices = {name: file.get_slice(name) for name in file.offset_keys()}
        kinds = {name: (np.dtype(DTYPES[one.get_dtype()]), one.get_shape()) for name, one in slices.items()}
    with path.open("rb") as source:
        pages = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
    start, tensors = len(pages), {}
    for name, (kind, shape) in reversed(kinds.items()):  # the file ends with the values, without gaps
        start -= kind.itemsize * math.prod(shape)
        tensors[name] = np.frombuffer(pages, kind, math.prod(shape), start).reshape(shape)
    return tensors, pages
