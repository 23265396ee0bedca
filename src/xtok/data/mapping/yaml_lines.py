"""YAML from strangers, read so that every mistake can be named by its line. No tags, aliases or merges: nothing
expands.

Values are plain strings; who asks for a number or a list says so, and is told the line where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml

BYTES_MAX, DEPTH_MAX = 64_000, 12


@dataclass(frozen=True)
class Node:
    """One value with its place. line: from 1."""

    value: Any  # yaml.Node
    file: str
    line: int
    name: str  # of the key it belongs to

    def fail(self, message: str) -> NoReturn:
        raise ValueError(f"{self.file}, line {self.line}: {message}")

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, yaml.SequenceNode)

    @property
    def is_empty(self) -> bool:
        return isinstance(self.value, yaml.ScalarNode) and not self.value.value.strip()

    def text(self) -> str:
        if not isinstance(self.value, yaml.ScalarNode) or not self.value.value.strip():
            self.fail(f"{self.name!r} wants a word, not {self._kind()}")
        return self.value.value.strip()

    def number(self) -> float:
        text = self.text()
        try:
            value = float(text)
        except ValueError:
            self.fail(f"{self.name!r} wants a number, not {text!r}")
        if not abs(value) < 1e9:
            self.fail(f"{self.name!r} is {text}; expected a number of ordinary size")
        return value

    def choice(self, options: Sequence[str]) -> str:
        text = self.text()
        if text not in options:
            close = get_close_matches(text, options, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}? " if close else ""
            self.fail(f"{self.name!r} is {text!r}; {hint}expected one of {', '.join(options)}")
        return text

    def items(self) -> list[Node]:
        if not isinstance(self.value, yaml.SequenceNode):
            self.fail(f"{self.name!r} wants a list, not {self._kind()}")
        return [self._child(child, self.name) for child in self.value.value]

    def keys(self, known: Sequence[str] | None = None, required: Sequence[str] = ()) -> dict[str, Node]:
        """The entries of a mapping. known: keys there may be (None: any). required: keys there must be."""
        if not isinstance(self.value, yaml.MappingNode):
            self.fail(f"{self.name!r} wants keys ({', '.join(known or ('name: value',))}), not {self._kind()}")
        out: dict[str, Node] = {}
        for key_node, value_node in self.value.value:
            line = key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str) or not key:
                raise ValueError(f"{self.file}, line {line}: a key must be a word")
            if key in out:
                raise ValueError(
                    f"{self.file}, line {line}: {key!r} stands here twice (before in line {out[key].line})"
                )
            if known is not None and key not in known:
                close = get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise ValueError(f"{self.file}, line {line}: unknown key {key!r}; {hint}expected {', '.join(known)}")
            out[key] = Node(value_node, self.file, line, key)
        if missing := [key for key in required if key not in out]:
            self.fail(f"{self.name!r} lacks {', '.join(map(repr, missing))}")
        return out

    def _child(self, value: Any, name: str) -> Node:
        return Node(value, self.file, value.start_mark.line + 1, name)

    def _kind(self) -> str:
        if isinstance(self.value, yaml.ScalarNode):
            return repr(self.value.value) if self.value.value else "nothing"
        return "a list" if self.is_list else "keys"


def read_yaml(path: Path) -> Node:
    """The root of a file.

    Raises:
        ValueError: a file that is missing, too large, no YAML, empty, or uses tags, anchors or aliases.
    """
    try:
        if path.stat().st_size > BYTES_MAX:
            raise ValueError(f"{path} has over {BYTES_MAX} bytes; a mapping has one or two thousand")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}; expected a mapping in YAML") from error
    return parse_yaml(text, path.name)


def parse_yaml(text: str, file: str) -> Node:
    """The same of a text; `file` is for the messages."""
    try:
        _check_events(yaml.parse(text, Loader=yaml.SafeLoader), file)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f", line {mark.line + 1}"
        raise ValueError(f"{file}{line}: no YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: no YAML: {error}") from error
    if root is None:
        raise ValueError(f"{file} is empty; `xtok inspect` writes a mapping to begin with")
    return Node(root, file, root.start_mark.line + 1, "the mapping")


def _check_events(events: Iterator[Any], file: str) -> None:
    depth = documents = 0
    for event in events:
        where = f"{file}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError(f"{where}: anchors and aliases are not read; write the value out")
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"{where}: the tag {event.tag} is not read; write a plain value")
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX or documents > 1:
            raise ValueError(
                f"{where}: {'nested too deeply' if depth > DEPTH_MAX else 'a second document'}; see docs/data.md"
            )
