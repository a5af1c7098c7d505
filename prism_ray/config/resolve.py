"""Resolution of the user's values: presets, shared sections and named sections override each other.

A user writes the shared sections `recover` and `evaluate`. For a comparison, the named sections `image_sets`
and `evaluations` override their values. The result has only named sections, with every value filled in:

    image_sets.<name>   method's preset < recover < image_sets.<name>
    evaluations.<name>  protocol's preset < evaluate < evaluations.<name>
    relabel             protocol's preset < relabel

All evaluations have one protocol, because they share the labels.

The functions work on plain data that is not checked yet, so they accept values of any type.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prism_ray.config.recover import RecoverConfig, SelectConfig
from prism_ray.config.renamed import with_new_names
from prism_ray.config.text import shown
from prism_ray.errors import ConfigError
from prism_ray.methods import Method, find_method
from prism_ray.methods.protocols import PROTOCOLS, Protocol

Where = Callable[[str], str]  # the file or the option that set a key

DISTILLED = "distilled"  # name of the image set if the config names none
CONTROL = "random-real"  # name of its control
STUDENT = "student"  # name of the evaluation if the config names none
FULL_DATA = "full-data"  # stands for an image set where students are trained on all real images

_SECTIONS = ("selection", "statistics")  # merged key by key; every other value is replaced as a whole


def resolve(values: Mapping[str, Any], where: Where) -> dict[str, Any]:
    """Return `values` with `recover` and `evaluate` merged into the named sets and evaluations.

    `where` returns the file or the option that set a key. Raises ConfigError if a section is not a mapping,
    or if an option sets a shared value that has no effect.
    """
    resolved = dict(values)
    recover, evaluate, relabel = (
        _section(resolved.pop(key, None), key, where) for key in ("recover", "evaluate", "relabel")
    )
    sets = _named(resolved.pop("image_sets", None), "image_sets", where)
    evaluations = _named(resolved.pop("evaluations", None), "evaluations", where) or {STUDENT: {}}
    protocol = "prism"
    if sets is None:
        sets = {DISTILLED: {}, CONTROL: {"method": CONTROL}}
        method = _method(recover)
        protocol = method.protocol if method is not None else protocol
    image_sets = {name: _image_set(recover, own) for name, own in sets.items()}

    def reaches_a_set(parts: Sequence[str]) -> bool:
        return any(
            _takes(image_sets[name], parts[0]) and not _holds(own, parts) for name, own in sets.items()
        )

    _check_reach("recover", recover, reaches_a_set, "image_sets", where)
    given = [evaluate, *evaluations.values()]
    protocol = next((section["protocol"] for section in given if "protocol" in section), protocol)
    preset = PROTOCOLS.get(protocol, Protocol("")) if isinstance(protocol, str) else Protocol("")

    def reaches_an_evaluation(parts: Sequence[str]) -> bool:
        in_labels = parts == ["protocol"] and not preset.relabel.keys() <= relabel.keys()
        return in_labels or not all(_holds(own, parts) for own in evaluations.values())

    _check_reach("evaluate", evaluate, reaches_an_evaluation, "evaluations", where)
    for name, own in evaluations.items():
        if "protocol" in own and own["protocol"] != protocol:
            key = f"evaluations.{name}.protocol"
            raise ConfigError(
                f"{where(key)}: {key} = {shown(own['protocol'])}, but another evaluation has "
                f"{shown(protocol)}, and all evaluations share one protocol and its labels; set "
                f"evaluate.protocol, and set what differs key by key in evaluations.{name}"
            )
    return {
        **resolved,
        "image_sets": image_sets,
        "evaluations": {
            name: _merge(preset.evaluate, {"protocol": protocol}, evaluate, own)
            for name, own in evaluations.items()
        },
        "relabel": {**preset.relabel, **relabel},
    }


def user_location(location: Iterable[str | int], values: Mapping[str, Any]) -> list[str | int]:
    """Return the location in the user's `values` that the `location` in the resolved ones comes from."""
    parts = list(location)
    for named, shared in (("image_sets", "recover"), ("evaluations", "evaluate")):
        if parts[:1] == [named] and len(parts) > 1 and not _holds(values, parts):
            unnamed = values.get(named) is None
            if unnamed or (len(parts) > 2 and _holds(values, [shared, parts[2]])):
                return [shared, *parts[2:]]
    return parts


def _method(values: Mapping[str, Any]) -> Method | None:
    name = values.get("method", "prism")
    return find_method(name) if isinstance(name, str) else None


def _image_set(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = {"method": "prism", **_merge(shared, own)}
    method = _method(merged)
    if method is None:
        return merged
    preset, _ = with_new_names(method.preset, f"preset of method {merged['method']}", ("recover",))
    formation = {**preset, **merged}.get("formation")
    reaches = {key: value for key, value in shared.items() if _applies(key, method.optimises, formation)}
    return {**_merge(preset, reaches, own), "method": merged["method"]}


def _applies(key: str, optimises: bool, formation: Any) -> bool:
    """True if a shared key of `recover` has an effect on a set; unknown keys are passed on."""
    if key == "ipc_indices_per_batch":
        return formation not in ("joint", "class-wise")
    if optimises or key not in RecoverConfig.model_fields:
        return True
    return key in SelectConfig.model_fields and key != "init"


def _merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            below = merged.get(key)
            if key in _SECTIONS and isinstance(below, Mapping) and isinstance(value, Mapping):
                value = {**below, **value}
            merged[key] = value
    return merged


def _section(section: Any, key: str, where: Where) -> dict[str, Any]:
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{where(key)}: {key} = {shown(section)}: expected a mapping of keys to values")
    return dict(section)


def _named(section: Any, key: str, where: Where) -> dict[str, dict[str, Any]] | None:
    if section is None:
        return None
    named = _section(section, key, where)
    if not named:
        raise ConfigError(
            f"{where(key)}: {key} = {{}} names nothing; name at least one, or leave the key out"
        )
    return {name: _section(own, f"{key}.{name}", where) for name, own in named.items()}


def _check_reach(
    section: str,
    shared: Mapping[str, Any],
    reaches: Callable[[Sequence[str]], bool],
    named: str,
    where: Where,
) -> None:
    """Raise ConfigError if an option sets a shared value that nothing uses: its user expects an effect."""
    for parts, value in _shared_values(shared):
        key = ".".join(parts)
        source = where(f"{section}.{key}")
        if "--set " in source and not reaches(parts):
            raise ConfigError(
                f"{source}: {section}.{key} = {shown(value)} has no effect, because each of {named} has its "
                f"own value or does not use the key; set {named}.<name>.{key}"
            )


def _takes(result: Mapping[str, Any], key: str) -> bool:
    """True if a set has a shared key of `recover`."""
    method = _method(result)
    return key in result and (method is None or _applies(key, method.optimises, result.get("formation")))


def _shared_values(shared: Mapping[str, Any]) -> Iterable[tuple[list[str], Any]]:
    for key, value in shared.items():
        if key in _SECTIONS and isinstance(value, Mapping):
            yield from (([key, inner], nested) for inner, nested in value.items())
        else:
            yield [key], value


def _holds(values: Mapping[str, Any], parts: Iterable[str | int]) -> bool:
    node: Any = values
    for part in parts:
        in_list = isinstance(node, list) and isinstance(part, int) and part < len(node)
        if not in_list and not (isinstance(node, Mapping) and part in node):
            return False
        node = node[part]
    return True
