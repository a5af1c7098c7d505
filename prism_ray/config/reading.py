"""The text of a config: YAML as plain data and back. No more is read than a config has; nothing runs."""

import re
from pathlib import Path
from typing import Any

import yaml

from prism_ray.errors import ConfigError

# A config has kilobytes. To read much more would take minutes and gigabytes, and it would be no config.
_MAX_BYTES = 2**20
_MAX_VALUES = 200_000  # one that an alias repeats counts each time
_MAX_DEPTH = 50
_SHOWN = 200  # characters of a value in an error

_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


def read_config_text(path: Path) -> str:
    """Return the text of a config; raises OSError, or ValueError if it is not UTF-8, or too large for one."""
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES:,} bytes, which no config has")
    return data.decode()


def parse_yaml(text: str, origin: str) -> Any:
    """Return what YAML says, as plain data; `origin` names it in errors.

    Raises ConfigError that names line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark else origin
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}: not valid YAML: {problem}") from None


def to_yaml(values: Any) -> str:
    """Return plain data as YAML that `parse_yaml` reads back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def shown(value: Any) -> str:
    """Return a value as an error shows it: its beginning, if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


class _Loader(yaml.SafeLoader):
    """YAML as users mean it: 1e-3 is a number, a date is text, a key is text, and given twice an error.

    Values are counted before any is made: a few aliases of aliases stand for more than a memory holds.
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
                problem=f"{shown(node.value)} is no {kind}", problem_mark=node.start_mark
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
    """Quotes the text that `_Loader` would read as a number."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def _count_values(node: yaml.Node, counted: dict[int, int]) -> int:
    """Return how many values a node stands for, with aliases written out; `counted` holds those of parts."""
    if id(node) in counted:  # 0 while its parts are counted: what holds itself is refused later
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
        problem=f"more than {_MAX_VALUES:,} values, counting what an alias repeats each time",
        problem_mark=mark,
    )
