"""Files that a user writes, YAML and JSON: what these would take otherwise than a person does is refused, by place."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import yaml

from kd.base.console import one_line, shown
from kd.base.numbers import PLAIN, number, whole
from kd.base.types import UserError

MOST_BYTES = 2**18
DEEPEST = 20
"""Levels that a mapping or list may lie within others."""
MOST_UNFOLDED = 10_000
"""Values that all aliases together may stand for."""
TAG = "tag:yaml.org,2002:"
NUMBERS = (f"{TAG}int", f"{TAG}float")


def read_text(path: str, named: str, instead: str) -> str:
    """Read a file; errors begin with `named`, such as `gates='gates.yaml'`, and end in what to do `instead`.

    Raises:
        UserError: no regular file (a pipe would be waited for), no UTF-8, or more than MOST_BYTES.
    """
    try:
        place = Path(path).expanduser()
        if not place.exists():
            where = "" if place.is_absolute() else f" in {Path.cwd()}"
            raise UserError(f"{named} is no file{where}: {instead}")
        if not place.is_file():
            raise UserError(f"{named} cannot be read (it is no regular file): {instead}")
        with place.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"{named} has more than {MOST_BYTES // 1024} KiB: {instead}")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{named} is no UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{named} cannot be read ({reason}): {instead}") from error


def parse_yaml(text: str, named: str) -> Any:
    """Return what YAML text holds, an empty text as {}.

    Raises:
        UserError: no YAML, or YAML that is easily taken for something else: keys given twice, merge keys, tags, numbers
            that are no plain decimals, aliases that unfold to very much. It names the place.
    """
    try:
        read = _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        reason = " ".join(f"{error.context or ''} {error.problem}".split())
        raise UserError(f"{named} is no YAML, {_place(error.problem_mark or error.context_mark)}: {reason}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{named} is no YAML, line {line}: {error.character:#x} is no character of text") from error
    except _Misleading as error:
        raise UserError(f"{named}, {error}") from error
    return {} if read is None else read


def parse_json(text: str, named: str, instead: str) -> Any:
    """Return what JSON text holds; errors end in what to do `instead`.

    Raises:
        UserError: no JSON, a key that is given twice, or a number that is infinite or none.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{named} cannot be read as JSON ({one_line(error)}): {instead}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{shown(name)} is given twice")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"


class _Misleading(Exception):
    """YAML that means something else than it seems to."""

    def __init__(self, mark: Any, what: str) -> None:
        super().__init__(f"{_place(mark)}: {what}")


class _Loader(yaml.SafeLoader):
    """Reads only what means the same to YAML and to a person; dates stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (f"{TAG}timestamp", f"{TAG}value")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._unfolded = 0
        self._sizes: dict[int, int] = {}
        """Of each node that is whole, by identity: how many nodes it stands for."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "tag", None):
            tag = shown(event.tag.replace(TAG, "!!"))
            raise _Misleading(event.start_mark, f"the tag {tag} is not used here: leave it out")
        self._depth += 1
        if self._depth > DEEPEST:
            raise _Misleading(event.start_mark, f"more than {DEEPEST} levels: give fewer brackets or indents")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            self._count(node, event)
        elif isinstance(node, yaml.ScalarNode):
            self._check_scalar(node)
        else:
            self._sizes[id(node)] = 1 + sum(self._sizes.get(id(one), 1) for one in _within(node))
        return node

    def _count(self, node: Any, alias: Any) -> None:
        if isinstance(node, yaml.CollectionNode) and id(node) not in self._sizes:
            raise _Misleading(alias.start_mark, f"*{alias.anchor} lies within what it stands for: write it out")
        self._unfolded += self._sizes.get(id(node), 1)
        if self._unfolded > MOST_UNFOLDED:
            raise _Misleading(
                alias.start_mark, f"aliases unfold to more than {MOST_UNFOLDED:,} values here: write out what is needed"
            )

    def _check_scalar(self, node: Any) -> None:
        if node.tag == f"{TAG}merge":
            raise _Misleading(node.start_mark, "<< (a merge key) is not used here: write the keys out")
        plain = node.style is None and PLAIN.fullmatch(node.value)
        if not plain and node.tag not in NUMBERS:
            return
        try:
            read = whole if plain and set(node.value) <= set("+-0123456789") else number
            read(node.value)
        except ValueError as error:
            raise _Misleading(
                node.start_mark,
                f"{shown(node.value)} is {error}: write the number as 12, 0.5 or 1e-5, or in quotes if it is text",
            ) from error
        node.tag = NUMBERS[read is number]

    def compose_mapping_node(self, anchor: str | None) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in seen:
                raise _Misleading(key.start_mark, f"{shown(key.value)} is given a second time: keep one of the two")
            seen.add(key.value)
        return node


def _within(node: Any) -> list[Any]:
    return [one for each in node.value for one in (each if isinstance(each, tuple) else (each,))]
