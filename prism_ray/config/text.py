"""The text of a config: from YAML to plain data and back. The size is limited, and no YAML tag runs code."""

import json
import re
from typing import Any

import yaml
from yamlcore import CoreLoader

from prism_ray.errors import ConfigError
from prism_ray.locations import open_to_read

# A config has kilobytes. A much larger file would take minutes and gigabytes, and is not a config.
_MAX_BYTES = 2**20
_MAX_VALUES = 200_000  # a value that aliases repeat counts each time
_MAX_DEPTH = 50
_SHOWN = 200  # characters of a value in an error

_TEXT = "tag:yaml.org,2002:str"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_BOOL = "tag:yaml.org,2002:bool"
_MERGE = "tag:yaml.org,2002:merge"


def read_config_text(location: str) -> str:
    """Return the text of a config, a local file or a URL.

    Raises OSError, ValueError if it is not UTF-8 or too large, and UsageError if the URL cannot be used.
    """
    with open_to_read(location, "config") as file:
        data: bytes = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES:,} bytes, the limit of a config")
    return data.decode()


def parse_yaml(text: str, origin: str) -> Any:
    """Return the plain data of a YAML text; `origin` names the text in errors.

    The rules are those of YAML 1.2: 0777 is 777, and yes, 12:30:45 and dates are text. Raises ConfigError
    with line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark else origin
        raise ConfigError(f"{where}: not valid YAML: {_problem(error)}") from None


def parse_value(text: str, origin: str) -> Any:
    """Return the value of a `--set` option, which is taken as typed: `a #2`, `a: b` and `*` are text.

    Text that begins with a bracket, a brace or a quote is read as YAML. Everything else is a number, a
    boolean or null as in a YAML file, or text. Raises ConfigError; `origin` names the option.
    """
    stripped = text.strip()
    is_yaml = stripped.startswith(("[", "{", '"', "'"))
    loader = _Loader(stripped if is_yaml else "")
    try:
        if is_yaml:
            node = loader.get_single_node()
            assert node is not None
            if rest := stripped[node.end_mark.index :].strip():
                raise yaml.MarkedYAMLError(problem=f"{shown(rest)} after it would be left out")
            return loader.construct_document(node)
        tag = loader.resolve(yaml.ScalarNode, stripped, (True, False))  # type: ignore[no-untyped-call]
        if tag in (_TEXT, _MERGE):
            return UnclearText(text) if _is_unclear(stripped) else text
        return loader.construct_object(yaml.ScalarNode(tag, stripped))
    except yaml.YAMLError as error:
        hint = f"; if it is meant as text, put it in quotes: {json.dumps(text, ensure_ascii=False)}"
        hint = hint if is_yaml and len(text) <= _SHOWN else ""
        raise ConfigError(f"{origin}: not valid YAML: {_problem(error)}{hint}") from None
    finally:
        loader.dispose()


def _problem(error: yaml.YAMLError) -> str:
    return getattr(error, "problem", None) or str(error)


def to_yaml(values: Any) -> str:
    """Return plain data as YAML, which `parse_yaml` reads back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def to_flow(value: Any) -> str:
    """Return plain data as YAML in one line, for an example in an error."""
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=10**6)
    return text.removesuffix("...\n").strip()


def shown(value: Any) -> str:
    """Return a value as text for an error; of a long value only the beginning."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


class WrittenInt(int):
    """A whole number that remembers how it was written: a key for text takes 007 as it stands."""

    written = ""


class WrittenFloat(float):
    """The same for a number with a fraction or an exponent."""

    written = ""


class UnclearText(str):
    """Text without quotes that YAML 1.1 reads as something else: yes, 1_000, 12:30:45."""


class _Loader(CoreLoader, yaml.SafeLoader):  # type: ignore[misc]
    """A loader for YAML 1.2 (core schema) with merge keys. Keys are text, and duplicate keys are refused.

    Values are counted before they are built, because a few nested aliases can exceed the memory.
    """

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

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        return yaml.SafeLoader.construct_mapping(self, node, deep)  # CoreLoader's has no merge keys

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
    """A dumper that quotes the text that YAML 1.1 or 1.2 would read as something else."""


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = str(node.value)
    if node.style is None and _is_unclear(text):
        return UnclearText(text)
    return text


def _is_unclear(text: str) -> bool:
    """Return whether YAML 1.1 reads text as a number or a boolean. That dates are text is clear."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], [])
    return any(tag in (_BOOL, _INT, _FLOAT) and pattern.match(text) for tag, pattern in resolvers)


def _whole(loader: _Loader, node: yaml.ScalarNode) -> WrittenInt:
    number = WrittenInt(CoreLoader.construct_yaml_int_core(loader, node))
    number.written = node.value
    return number


def _fraction(loader: _Loader, node: yaml.ScalarNode) -> WrittenFloat:
    number = WrittenFloat(CoreLoader.construct_yaml_float_core(loader, node))
    number.written = node.value
    return number


_Loader.add_constructor(_TEXT, _text)
_Loader.add_constructor(_INT, _whole)
_Loader.add_constructor(_FLOAT, _fraction)
_Loader.add_implicit_resolver(_MERGE, re.compile("^<<$"), ["<"])
for _first, _resolvers in CoreLoader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])


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
