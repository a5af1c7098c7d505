"""Controls: evaluations that differ from another one in one thing, so that its effect can be told.

`evaluate.controls` names them. `with_controls` adds them to the config of a run, as evaluations with names of
their own, so that all that follows (plan, fingerprints, tables) knows evaluations alone. A run keeps the
controls that it was begun with: a store of a version without controls stays complete.
"""

from collections.abc import Collection, Mapping

from prism_ray.config.labels import Control, EvaluateConfig
from prism_ray.config.run import Config
from prism_ray.errors import ConfigError

CONTROLS: tuple[Control, ...] = ("hard-labels", "no-augmentation", "full-data")
DEFAULT_CONTROLS: tuple[Control, ...] = ("hard-labels",)

_FREE = ("controls", "image_sets", "num_students", "test_every")  # two evaluations may differ in them
_FREE_OF_FULL_DATA = ("full_data_epochs",)
_OF_SOFT_LABELS = (
    "loss",
    "temperature",
    "temperature_schedule",
    "temperature_step",
    "temperature_decay",
    "temperature_min",
    "student_temperature_ratio",
    "marginal",
    "ce_weight",
)


def with_controls(config: Config, held: Config | None, origin: str) -> Config:
    """Return the config with its controls as evaluations.

    `held` is the present config of the run in the store, if that has finished units. It decides for an
    evaluation that names no controls. Raises ConfigError (`origin` names the config) if another evaluation
    has the name of a control.

    >>> list(with_controls(config, None, "config.yaml").evaluations)
    ['student', 'student-hard-labels']
    """
    evaluations, controls = dict(config.evaluations), control_names(config.evaluations)
    for name, evaluation in config.evaluations.items():
        if name in controls:  # which have none of their own
            continue
        wanted = evaluation.controls
        if wanted is None:
            wanted = _default(name, evaluation, held)
        for control in wanted:
            derived = _derived(evaluation, control)
            own = f"{name}-{control}"
            if _likeness(derived) == _likeness(evaluation) or find_control(evaluations, name, control):
                continue
            if own in evaluations:
                raise ConfigError(
                    f"{origin}: evaluations.{own} has the name of the control {control} of evaluation "
                    f"{name}, but other settings; give it another name, or leave the control out of "
                    f"evaluations.{name}.controls"
                )
            evaluations[own] = derived
    decided = {name: each.model_copy(update={"controls": ()}) for name, each in evaluations.items()}
    return config.model_copy(update={"evaluations": decided})


def with_finished_controls(config: Config, finished: Collection[str], origin: str) -> Config:
    """Return the config with those controls of which a student is finished: of a run that lost its plan.json.

    `finished` are the names of evaluations. Raises ConfigError as `with_controls` does.
    """
    all_of = {
        name: each.model_copy(update={"controls": CONTROLS if each.controls is None else each.controls})
        for name, each in config.evaluations.items()
    }
    full = with_controls(config.model_copy(update={"evaluations": all_of}), None, origin)
    found = {
        name: each
        for name, each in full.evaluations.items()
        if name in config.evaluations or name in finished
    }
    return config.model_copy(update={"evaluations": found})


def find_control(evaluations: Mapping[str, EvaluateConfig], name: str, control: Control) -> str | None:
    """Return the name of the evaluation that is a control of the evaluation `name`, None if there is none.

    Its settings decide, not its name: a hard-label evaluation that a user has named is one too.
    """
    wanted = _likeness(_derived(evaluations[name], control))
    found = (other for other, each in evaluations.items() if other != name and _likeness(each) == wanted)
    return next(found, None)


def control_names(evaluations: Mapping[str, EvaluateConfig]) -> set[str]:
    """Return the names of the evaluations that are controls of another one."""
    main = [name for name, each in evaluations.items() if is_main(each)]
    found = (find_control(evaluations, name, control) for name in main for control in CONTROLS)
    return {name for name in found if name is not None}


def is_main(evaluation: EvaluateConfig) -> bool:
    """Return whether an evaluation can have all controls: soft labels, augmented views of image sets."""
    return evaluation.labels == "soft" and evaluation.augment and evaluation.train_on == "image-sets"


def _default(name: str, evaluation: EvaluateConfig, held: Config | None) -> tuple[Control, ...]:
    if held is not None and name in held.evaluations:
        return tuple(control for control in CONTROLS if find_control(held.evaluations, name, control))
    return DEFAULT_CONTROLS if is_main(evaluation) else ()


def _derived(evaluation: EvaluateConfig, control: Control) -> EvaluateConfig:
    """Return the settings of a control of an evaluation."""
    if control == "hard-labels":
        return evaluation.model_copy(update={"labels": "hard"})
    if control == "no-augmentation":
        return evaluation.model_copy(update={"augment": False})
    return evaluation.model_copy(update={"labels": "hard", "train_on": "full-data", "image_sets": None})


def _likeness(evaluation: EvaluateConfig) -> dict[str, object]:
    """Return the settings that decide whether two evaluations train students in the same way."""
    free: tuple[str, ...] = _FREE
    if evaluation.labels == "hard":
        free += _OF_SOFT_LABELS
    if evaluation.train_on == "image-sets":
        free += _FREE_OF_FULL_DATA
    return {key: value for key, value in evaluation if key not in free}
