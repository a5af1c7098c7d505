"""Plan versions: the settings that are written into a scope, and their defaults. Pure.

A run keeps the plan version that it began with. Scopes contain only settings that differ from the defaults
of that version, so a new key with a default does not change the fingerprints of existing stores:

    version 3   also contains the keys of `_ALWAYS_IN_3`, whatever their values, under their old names
    version 4   contains what differs from its default, and nothing else

To change a default, raise PLAN_VERSION and add the old value to `_OLD_DEFAULTS`. To change the meaning of a
value, raise it too, and keep the old meaning for a `Run.plan_version` below it.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

from prism_ray.config import (
    AnalyzeConfig,
    CollectConfig,
    DataConfig,
    EvaluateConfig,
    RecoverConfig,
    RelabelConfig,
    SelectConfig,
    SqueezeConfig,
    TeacherConfig,
)
from prism_ray.config.base import Section
from prism_ray.config.renamed import old_name
from prism_ray.data import DataFacts
from prism_ray.methods import find_method

PLAN_VERSION = 4
OLDEST_PLAN_VERSION = 3  # of the runs that can be resumed

_NETWORK = "arch kwargs stem"
_IMAGE_SET = "method ipc primary formation images_per_batch ipc_indices_per_batch replicate init"
_ALWAYS_IN_3: Mapping[str, str] = {
    "data": "source image_size test_fraction validation_fraction",
    "teacher": f"{_NETWORK} weights_by mean std input_size class_indices",
    "squeeze": "epochs batch_size learning_rate weight_decay shift flip",
    "collect": "classes_per_unit batch_size images_per_class crop_scale flip patch_size "
    "rded_images_per_class rded_crops_per_image rded_crop_scale rded_patches_per_side",
    "recover": f"{_IMAGE_SET} selection statistics iterations iterations_step iterations_cycle learning_rate "
    "betas bn_weight densification_weight crop_scale crop_curriculum flip jitter patch_shuffle options",
    "recover.selection": "bn_teachers include_primary slots inclusion_probability weights redraw order "
    "logits votes priors prior_temperature",
    "recover.statistics": "layers momentum class_share first_weight scale teacher_weights",
    "select": _IMAGE_SET,
    "relabel": "teachers ensemble teacher_batch_norm teacher_batch_size epochs crop_scale flip cutmix_alpha "
    "patch_shuffle rand_augment images_per_group epochs_per_unit",
    "evaluate": "protocol student split labels loss temperature ce_weight batch_size learning_rate "
    "weight_decay cosine_stretch linear_tail ema_decay",
    "evaluate.student": _NETWORK,
    "analyze": "verifiers feature_teacher",
}
# Plan version -> section -> key -> the default of the key up to and including that version.
_OLD_DEFAULTS: Mapping[int, Mapping[str, Mapping[str, Any]]] = {}

_SECTIONS: Mapping[str, type[Section]] = {
    "data": DataConfig,
    "collect": CollectConfig,
    "recover": RecoverConfig,
    "relabel": RelabelConfig,
    "evaluate": EvaluateConfig,
    "analyze": AnalyzeConfig,
}


@dataclass(frozen=True)
class View:
    """A writer of settings in the form of a plan version: a `prism_ray.stages.SettingsView`.

    >>> View(4)("collect", CollectConfig(flip=False))
    {'flip': False}
    """

    version: int

    def __call__(
        self, section: str, values: Section, *, only: Container[str] | None = None, free: Container[str] = ()
    ) -> dict[str, Any]:
        """Return the settings of a section that count, as plain data; `free` ones never do."""
        is_3 = self.version == OLDEST_PLAN_VERSION
        always = _ALWAYS_IN_3.get(section, "").split() if is_3 else []
        dumped = values.model_dump(mode="json")
        found: dict[str, Any] = {}
        for key in type(values).model_fields:
            if key in free or (only is not None and key not in only):
                continue
            value, name = getattr(values, key), old_name(section, key) if is_3 else key
            if isinstance(value, Section):
                inner = self(f"{section}.{key}", value)
                if inner or name in always:
                    found[name] = inner
            elif name in always or value != self.default(type(values), section, key):
                found[name] = dumped[key]
        return found

    def facts(self, facts: DataFacts) -> dict[str, Any]:
        """Return the facts of the data that count, as they are in plan.json."""
        values = {field.name: (getattr(facts, field.name), field.default) for field in fields(facts)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, (value, default) in values.items()
            if default is MISSING or value != default
        }

    def default(self, model: type[Section], section: str, key: str) -> Any:
        """Return the default of a key in this version; MISSING if the key has to be given."""
        for version in range(self.version, PLAN_VERSION):
            old = _OLD_DEFAULTS.get(version, {}).get(section, {})
            if key in old:
                return old[key]
        field = model.model_fields[key]
        return MISSING if field.is_required() else field.get_default(call_default_factory=True)

    def default_at(self, parts: Sequence[str], method: str = "prism") -> Any:
        """Return the default at the key `parts` of a scope's settings; MISSING if there is none.

        `method` is that of the scope's image set, if it has one.
        """
        model: type[Section] | None = _SECTIONS.get(parts[0])
        section, left = parts[0], list(parts[1:])
        if parts[0] == "teachers" and len(parts) > 2:
            section = "squeeze" if parts[1] == "squeeze" else "teacher"
            model, left = (SqueezeConfig, left[1:]) if section == "squeeze" else (TeacherConfig, left[2:])
        elif parts[0] == "recover" and (found := find_method(method)) is not None and not found.optimises:
            section, model = "select", SelectConfig
        while model is not None and left and left[0] in model.model_fields:
            key = left.pop(0)
            if not left:
                default = self.default(model, section, key)
                return list(default) if isinstance(default, tuple) else default
            inner = model.model_fields[key].annotation
            model = inner if isinstance(inner, type) and issubclass(inner, Section) else None
            section = f"{section}.{key}"
        return MISSING
