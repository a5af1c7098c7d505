"""The text of a config: from YAML to plain data and back. The size is limited, and no YAML tag runs code."""

import re
from pathlib import Path
from typing import Any

import yaml

from prism_ray.errors import ConfigError

# A config has kilobytes. A much larger file would take minutes and gigabytes, and is not a config.
_MAX_BYTES = 2**20
_MAX_VALUES = 200_000  # a value that aliases repeat counts each time
_MAX_DEPTH = 50
_SHOWN = 200  # characters of a value in an error

_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


def read_config_text(path: Path) -> str:
    """Return the text of a config; raises OSError, or ValueError if it is not UTF-8 or too large."""
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES:,} bytes, the limit of a config")
    return data.decode()


def parse_yaml(text: str, origin: str) -> Any:
    """Return YAML text as plain data. Errors name `origin` as the file.

    Raises ConfigError with line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark else origin
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}: not valid YAML: {problem}") from None


def to_yaml(values: Any) -> str:
    """Return plain data as YAML, which `parse_yaml` reads back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def shown(value: Any) -> str:
    """Return a value as text for an error; of a long value only the beginning."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


class _Loader(yaml.SafeLoader):
    """A YAML loader that reads 1e-3 as a number, dates and keys as text, and refuses duplicate keys.

    Values are counted before they are built, because a few nested aliases can exceed the memory.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class declares it this way
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._checked: set[int] = set()
        self._depth = 0
        self._num_nodes = 0

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count_values(node, {})
        return node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._num_nodes += 1
        self._depth += 1
        if self._num_nodes > _MAX_VALUES:
            raise _too_many(self.get_mark())
        if self._depth > _MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {_MAX_DEPTH} deep", problem_mark=self.get_mark()
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, ArithmeticError):
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(
                problem=f"{shown(node.value)} is not a valid {kind}", problem_mark=node.start_mark
            ) from None

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        self._check_keys(node)
        super().flatten_mapping(node)

    def _check_keys(self, node: yaml.MappingNode) -> None:
        if id(node) in self._checked:
            return
        self._checked.add(id(node))
        seen: set[str] = set()
        pairs = []
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {shown(key)} is given twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != _MERGE:
                key_node = yaml.ScalarNode(_TEXT, key_node.value, key_node.start_mark, key_node.end_mark)
            pairs.append((key_node, value_node))
        node.value = pairs


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that quotes the text that `_Loader` would read as a number."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def _count_values(node: yaml.Node, counted: dict[int, int]) -> int:
    """Return the number of values of a node with aliases expanded; `counted` has those of its parts."""
    if id(node) in counted:  # 0 during the count of its parts: a node that contains itself is refused later
        return counted[id(node)]
    counted[id(node)] = 0
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_count_values(value, counted) for value in node.value)
    elif isinstance(node, yaml.MappingNode):
        total += sum(_count_values(part, counted) for pair in node.value for part in pair)
    if total > _MAX_VALUES:
        raise _too_many(node.start_mark)
    counted[id(node)] = total
    return total


def _too_many(mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(
        problem=f"more than {_MAX_VALUES:,} values, where each use of an alias counts", problem_mark=mark
    )
