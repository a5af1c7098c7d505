"""What the commands print with `--json`, as JSON Schemas made from the dataclasses that they print.

The schemas cannot differ from the code: types come from the fields, descriptions from the comments beside
them.
"""

import inspect
import io
import textwrap
import tokenize
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

from pydantic import TypeAdapter

from prism_ray.store import Failure

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
COMMANDS = ("compare", "failures", "plan", "status", "sweep", "teachers", "verify")


@dataclass(frozen=True)
class VerifyOutput:
    """Whether every committed file of a run is whole."""

    complete: bool  # all units of the config are done
    stages: dict[str, tuple[int, int]]  # stage -> (units that are whole, units)
    others: dict[str, int]  # scope that the present config does not name -> units that are whole
    damaged: dict[str, str]  # unit or record -> what is wrong; with --repair, what was


@dataclass(frozen=True)
class FailuresOutput:
    """The failed attempts of a run."""

    failures: tuple[Failure, ...]  # the oldest number of each unit first
    set_aside: tuple[str, ...]  # ids of units that are left out until `retry`


def output_schema(command: str) -> Schema:
    """Return the JSON Schema (draft 2020-12) of what a command of COMMANDS prints with `--json`.

    A key that is listed is always there. Later versions may add keys, which a reader should pass over.
    """
    kind, classes = _output_of(command)
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    definitions = schema.get("$defs", {})
    for cls in classes:
        _complete(definitions.get(cls.__name__, schema), cls)
    return {"$schema": DIALECT, "title": f"prism-ray {command} --json"} | {
        key: value for key, value in schema.items() if key != "title"
    }


def _output_of(command: str) -> tuple[Any, set[type]]:
    """Return the type of a command's output, and all dataclasses in it."""
    kind: Any
    if command == "status":
        from prism_ray.analyze.summary import Summary

        kind = Summary | _sweep_status()
    elif command == "sweep":
        kind = _sweep_output() | _sweep_forecast()
    elif command == "plan":
        from prism_ray.analyze.preview import Preview as kind
    elif command == "compare":
        kind = _compared()
    elif command == "teachers":
        from prism_ray.analyze.pool_table import PoolFigures as kind
    else:
        kind = {"verify": VerifyOutput, "failures": FailuresOutput}[command]
    return kind, set(_dataclasses(kind))


def _sweep_status() -> type:
    from prism_ray.run.live import Live
    from prism_ray.sweep.table import SweepTable

    @dataclass(frozen=True)
    class SweepStatus:
        """The points of the sweeps in a folder."""

        sweeps: tuple[SweepTable, ...]  # one for each sweep file
        live: Live | None  # what a driver that is at work on them is doing

    return SweepStatus


def _sweep_output() -> type:
    from prism_ray.sweep.table import SweepTable

    @dataclass(frozen=True)
    class SweepOutput:
        """The points of the sweep files after a call of `sweep`."""

        sweeps: tuple[SweepTable, ...]  # one for each sweep file
        errors: dict[str, str]  # folder of a point -> why it ended; the others are complete

    return SweepOutput


def _sweep_forecast() -> type:
    from prism_ray.sweep.forecast import PointForecast

    @dataclass(frozen=True)
    class SweepForecast:
        """What `sweep --dry-run` says of the points of the sweep files."""

        points: tuple[PointForecast, ...]  # in the order of the files

    return SweepForecast


def _compared() -> type:
    from prism_ray.analyze.compare import Comparison
    from prism_ray.analyze.fair import FairFigures
    from prism_ray.analyze.verdict import Verdict

    @dataclass(frozen=True)
    class Compared(Comparison):
        """All rows, the best accuracy first within an evaluation, and the verdict on the runs."""

        verdict: Verdict  # on all runs together
        fair: FairFigures  # scores beside the controls, of the rows that all runs have
        missing_controls: str  # a sentence; "" if none

    return Compared


def _dataclasses(kind: Any) -> Iterator[type]:
    """Yield the dataclasses in a type, once or more often."""
    if is_dataclass(kind) and isinstance(kind, type):
        yield kind
        for inner in typing.get_type_hints(kind).values():
            yield from _dataclasses(inner)
    for inner in typing.get_args(kind):
        yield from _dataclasses(inner)


def _complete(schema: Schema, cls: type) -> None:
    """Add to the schema of a dataclass its derived keys and the comments; every key is required."""
    properties: dict[str, Schema] = schema["properties"]
    properties |= {name: _derived(cls, name) for name in getattr(cls, "JSON_PROPERTIES", ())}
    comments = _comments(cls)
    for name, value in properties.items():
        value.pop("title", None)
        value.pop("default", None)
        if name in comments:
            value["description"] = comments[name]
    schema["required"] = list(properties)


def _derived(cls: type, name: str) -> Schema:
    """Return the schema of a property of a dataclass; its docstring is the description."""
    getter = vars(cls)[name].fget
    schema = TypeAdapter(typing.get_type_hints(getter)["return"]).json_schema(mode="serialization")
    return schema | ({"description": inspect.cleandoc(getter.__doc__)} if getter.__doc__ else {})


def _comments(cls: type) -> Mapping[str, str]:
    """Return the comment at the end of each field's line, of a dataclass and its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            lines: dict[int, str] = {}
            for token in tokenize.generate_tokens(
                io.StringIO(textwrap.dedent(inspect.getsource(base))).readline
            ):
                if token.type == tokenize.NAME:
                    lines.setdefault(token.start[0], token.string)
                elif token.type == tokenize.COMMENT and token.start[0] in lines:
                    found[lines[token.start[0]]] = token.string.lstrip("# ")
    return found
