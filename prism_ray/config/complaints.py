"""The errors of a config in words: one line for each wrong key, with file or option, key, value and remedy.

pydantic finds what is wrong; every sentence is made here, or by a validator of a section. A key that is
probably misspelt comes first, and what is missing only because of it is left out.
"""

import re
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from prism_ray.config.labels import EvaluateConfig
from prism_ray.config.networks import ARCH_PATTERN, NAME_PATTERN
from prism_ray.config.recover import RecoverConfig, SelectConfig
from prism_ray.config.renamed import old_names
from prism_ray.config.resolve import Where, user_location
from prism_ray.config.run import Config
from prism_ray.config.text import shown, to_flow
from prism_ray.suggest import did_you_mean, nearest
from prism_ray.wording import what_it_must_be

# Shared sections, which exist only in the user's values.
SHARED: dict[str, type[BaseModel]] = {"recover": RecoverConfig, "evaluate": EvaluateConfig}
_RELATED = {"recover": "image_sets", "evaluate": "evaluations"}  # either can give a missing value

# Examples of the keys whose default is none.
EXAMPLES = {
    "store": "./runs/digits",
    "url": "s3://bucket/run",
    "data": "{source: digits, image_size: 32}",
    "path": "/data/images",
    "test_path": "/data/test-images",
    "classes": "[apple, pear]",
    "full_scale": "1023",
    "image_size": "32",
    "num_classes": "10",
    "teachers": "{pool: [{name: resnet, arch: timm:resnet18}]}",
    "pool": "[{name: resnet, arch: timm:resnet18}]",
    "name": "resnet",
    "arch": "timm:resnet18",
    "kwargs": "{width_mult: 0.5}",
    "mean": "[0.485, 0.456, 0.406]",
    "std": "[0.229, 0.224, 0.225]",
    "class_indices": "[285, 967]",
    "images_per_class": "500",
    "image_sets": "{distilled: {method: prism}}",
    "ipc": "10",
    "primary": "resnet",
    "ipc_indices_per_batch": "2",
    "bn_teachers": "[resnet, densenet]",
    "weights": "{resnet: 2.0}",
    "priors": "{resnet: 69.8}",
    "teacher_weights": "{resnet: 0.5}",
    "options": "{strength: 0.5}",
    "evaluations": "{student: {labels: soft}}",
    "student": "{arch: timm:resnet18}",
    "test_every": "10",
    "controls": "[hard-labels, full-data]",
    "full_data_epochs": "30",
    "verifiers": "[densenet]",
    "feature_teacher": "densenet",
    "trackers": "[tensorboard, mlflow]",
    "accelerator_type": "H100",
    "label_selector": "{zone: a}",
    "preemption_budget": "10",
    "metrics_port": "8080",
    "max": "8",
}

_PATTERNS = {
    NAME_PATTERN: "a name of small letters, digits, '.', '_' and '-' that begins with a letter or a digit",
    ARCH_PATTERN: "timm:<architecture> or torchvision:<architecture>",
}


class _Problem(NamedTuple):
    """What is wrong with a value, in three parts of a sentence."""

    text: str
    example: str = ""
    hint: str = ""


def complaints(error: ValidationError, values: Any, resolved: Any, where: Where) -> list[str]:
    """Return a line for each wrong key of the user's `values`; `resolved` is what was checked.

    `where` returns the file or the option that set a key.
    """
    lines: dict[str, list[_Problem]] = {}  # subject -> problems; a union has one for each of its members
    typos: dict[str, None] = {}
    meant: set[str] = set()  # keys that were probably meant by unknown ones
    missing: dict[str, str] = {}  # subject -> key
    keys: dict[str, str] = {}  # subject of a value of the wrong kind -> key
    inner: set[str] = set()  # keys that have a wrong key or value inside
    for detail in error.errors(include_url=False):
        location = user_location(location_of(detail, resolved), values)
        key = ".".join(map(str, location))
        subject = f"{where(key)}: {key} = {shown(detail['input'])}: "
        match detail["type"]:
            case "extra_forbidden":
                # The member of the union that this set is; a key of `recover` applies to all sets.
                is_selected = location[0] == "image_sets" and detail["loc"][2:3] == ("select",)
                text, suggested = _unknown(location, is_selected)
                problem = _Problem(text)
                meant.update(suggested)
                if suggested:
                    typos[subject] = None
            case "missing" if not isinstance(location[-1], int):
                subject, problem = f"{where(key)}: {key} ", _Problem(f"is missing{_description(location)}")
                missing[subject] = key
            case "value_error":
                subject = f"{where(key)}: {key + ': ' if key else ''}"
                problem = _Problem(_own_text(detail, values))
            case "json_invalid":  # for example text with half a surrogate
                subject = f"{where('')}: "
                problem = _Problem(f"a value is not plain data: {detail['msg']}; correct the text")
            case _:
                if detail["type"] == "missing":  # of a list that is too short
                    location = location[:-1]
                    key = ".".join(map(str, location))
                    subject = f"{where(key)}: {key} = {shown(detail['input'])}: "
                problem = _must_be(detail, location)
                keys[subject] = key
        lines.setdefault(subject, []).append(problem)
        inner.update(".".join(map(str, location[:depth])) for depth in range(1, len(location)))
    follows = [subject for subject, key in missing.items() if _is_meant(key, meant)]
    # The other members of a union; its value is of the kind that has the wrong key or value inside.
    follows += [subject for subject, key in keys.items() if key in inner]
    order = [*typos, *(subject for subject in lines if subject not in typos and subject not in follows)]
    return [subject + _joined(lines[subject]) for subject in order]


def _joined(problems: Sequence[_Problem]) -> str:
    """Join the problems of one value: `must be a` and `must be b` become `must be a, or b`."""
    first, *others = dict.fromkeys(problems)
    sentences = [first.text, *(other.text.removeprefix("must be ") for other in others)]
    hints = "".join(dict.fromkeys(problem.hint for problem in problems))
    return ", or ".join(sentences) + first.example + hints


def _is_meant(key: str, meant: Iterable[str]) -> bool:
    """Return whether a missing key is, or is in, a section that was probably meant by an unknown key."""
    for one in meant:
        sections = {one, *(pair[1 - pair.index(one)] for pair in _RELATED.items() if one in pair)}
        if any(f"{key}.".startswith(f"{section}.") for section in sections):
            return True
    return False


def _own_text(detail: Any, values: Any) -> str:
    """Return the message of a section's own check."""
    text = str(detail["ctx"]["error"])
    if "image_sets" not in values:  # the checks of the whole config know only named sets
        text = re.sub(r"\bimage_sets\.[a-z-]+\.", "recover.", text)
    if "evaluations" not in values:
        text = re.sub(r"\bevaluations\.[a-z-]+\.", "evaluate.", text)
    return text


def _must_be(detail: Any, location: Sequence[str | int]) -> _Problem:
    """Return what a value must be, with an example."""
    given, annotation = detail["input"], _annotation_at(location)
    hint = ""
    if detail["type"] == "literal_error" and isinstance(given, str):
        hint = did_you_mean(given, re.findall(r"'([^']*)'", str(detail["ctx"]["expected"])))
    elif detail["type"] in ("bool_type", "int_type", "float_type") and isinstance(given, str):
        hint = text_hint(given)
    elif detail["type"] == "string_type":
        hint = "; put text in quotes"
    null = ", or null" if NoneType in get_args(annotation) else ""
    example = "" if hint or detail["type"] == "literal_error" else _example(location)
    phrase = what_it_must_be(detail, _PATTERNS, _length_of(annotation))
    return _Problem(f"must be {phrase}{null}", example, hint)


def _length_of(annotation: Any) -> int | None:
    """Return the length of the first tuple of fixed length in an annotation, None if there is none."""
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple:
        return None if Ellipsis in arguments else len(arguments)
    return next(filter(None, map(_length_of, arguments)), None)


def _example(location: Sequence[str | int]) -> str:
    """Return `; for example key: value`: the default, or one of the table for a key that has none."""
    for depth in range(len(location), 0, -1):
        name, model = str(location[depth - 1]), _model_at(location[: depth - 1])
        if model is Config and name in SHARED:
            return ""
        field = model.model_fields.get(name)
        if field is not None:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            if default in (None, (), {}) or isinstance(default, BaseModel):
                return f"; for example {name}: {EXAMPLES[name]}" if name in EXAMPLES else ""
            return (
                f"; for example {name}: {to_flow(list(default) if isinstance(default, tuple) else default)}"
            )
    return ""


def _description(location: Sequence[str | int]) -> str:
    field = _model_at(location[:-1]).model_fields.get(str(location[-1]))
    description = f" ({' '.join(field.description.split())})" if field and field.description else ""
    return description if "for example" in description else description + _example(location)


def text_hint(value: str) -> str:
    """Return the end of an error for text that was probably meant as a number or a boolean."""
    if value.lower() in ("yes", "no", "on", "off", "y", "n"):
        return "; use true or false"
    if value[:1] in tuple("+-.0123456789"):
        return "; write a number such as 1000, 0.5, 1e-3 or 0x1F"
    return ""


def location_of(detail: Any, values: Any) -> list[str | int]:
    """Return the location of an error in `values`, without the union member that pydantic tried."""
    location: list[str | int] = []
    for index, part in enumerate(detail["loc"]):
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and isinstance(part, int):
            values = values[part] if part < len(values) else None
        elif detail["type"] != "missing" or index < len(detail["loc"]) - 1:
            continue
        location.append(part)
    return location


def _annotation_at(location: Sequence[str | int]) -> Any:
    """Return the annotation of the innermost key along `location`, None for a part of a key's value."""
    field = _model_at(location[:-1]).model_fields.get(str(location[-1])) if location else None
    return None if field is None else field.annotation


def _model_at(location: Sequence[str | int]) -> type[BaseModel]:
    """Return the model of the innermost section along `location`."""
    model: type[BaseModel] = Config
    for part in map(str, location):
        if model is Config and part in SHARED:
            model = SHARED[part]
        elif part in model.model_fields:
            model = _find_model(model.model_fields[part].annotation) or model
    return model


def _find_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_find_model, get_args(annotation))), None)


def _unknown(location: Sequence[str | int], is_selected: bool) -> tuple[str, list[str]]:
    """Return the problem of an unknown key, and the keys that were probably meant.

    They are searched in the same section first, then in the whole config. `is_selected` tells whether the key
    belongs to an image set that is selected and not optimised.
    """
    *sections, wrong = map(str, location)
    model = SelectConfig if is_selected else _model_at(location[:-1])
    if is_selected and wrong in RecoverConfig.model_fields:
        what = "the set's method selects real images and does not optimise them"
        return f"unknown key; {what}; leave {wrong} out", []
    names = [*model.model_fields, *(SHARED if model is Config else ())]
    here = {name: ".".join([*sections, name]) for name in names}
    here |= {old: ".".join([*sections, new]) for old, new in old_names(sections).items()}
    elsewhere = {full.rpartition(".")[2]: full for full in _all_keys(Config)}
    for section, shared in SHARED.items():
        elsewhere |= {full.rpartition(".")[2]: full for full in _all_keys(shared, f"{section}.")}
    for choices in (here, elsewhere):
        found = [choices[name] for name in nearest(wrong, choices)]
        if found:
            return f"unknown key{did_you_mean(wrong, choices)}", found
    return f"unknown key; the keys here are {', '.join(names)}", []


def all_config_keys() -> list[str]:
    """Return the keys of a config in the form of `--set`, those of a single image set and evaluation too."""
    keys = {key for key in _all_keys(Config) if not key.startswith(("image_sets", "evaluations"))}
    keys |= {f"recover.{key}" for key in _all_keys(RecoverConfig)}
    keys |= {f"evaluate.{key}" for key in _all_keys(EvaluateConfig)}
    return sorted(
        {key for key in keys if not key.startswith("teachers.pool.")} | {"image_sets", "evaluations"}
    )


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        inner = _find_model(field.annotation)
        if inner is not None:
            yield from _all_keys(inner, f"{prefix}{name}.")
