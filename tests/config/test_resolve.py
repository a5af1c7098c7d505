"""Presets, shared sections and named ones, laid over each other."""

from pathlib import Path

import pytest

from prism_ray.config import Config, RecoverConfig, SelectConfig, dump_config, load_config
from prism_ray.errors import ConfigError

COMPARE = "image_sets={ours: {method: prism}, theirs: {method: sre2l}, control: {method: random-real}}"


def recovered(config: Config, name: str = "distilled") -> RecoverConfig:
    image_set = config.image_sets[name]
    assert isinstance(image_set, RecoverConfig)
    return image_set


def test_a_config_without_sets_has_one_and_its_control(config_path: Path) -> None:
    """A run without a control; or a control that inherits an optimisation."""
    config = load_config(config_path)
    assert list(config.image_sets) == ["distilled", "random-real"]
    control = config.image_sets["random-real"]
    assert isinstance(control, SelectConfig)
    assert (control.ipc, control.init) == (10, "random")
    assert list(config.evaluations) == ["student"]


def test_a_preset_lies_under_what_the_user_says(config_path: Path) -> None:
    """A preset that overrides the user, or the defaults that override the preset."""
    config = load_config(config_path, ["recover.method=sre2l"])
    image_set = recovered(config)
    assert (image_set.learning_rate, image_set.init) == (0.25, "noise")  # the preset's
    assert (image_set.iterations, image_set.crop_scale) == (100, (0.5, 1.0))  # the file's
    assert image_set.betas == (0.5, 0.9)  # the default


def test_shared_values_reach_every_set_and_its_own_win(config_path: Path) -> None:
    """One set's settings in another, or shared ones that lie over a set's own."""
    config = load_config(
        config_path, [COMPARE, "image_sets.theirs.iterations=70", "image_sets.theirs.iterations_step=0"]
    )
    assert recovered(config, "ours").iterations == 100
    assert recovered(config, "theirs").iterations == 70
    assert recovered(config, "theirs").learning_rate == 0.25
    assert recovered(config, "ours").learning_rate == 0.05
    assert config.image_sets["control"].ipc == 10


def test_sections_of_a_set_are_laid_over_the_presets_key_by_key(config_path: Path) -> None:
    """`selection.redraw` that throws away the rest of G-VBSM's selection."""
    config = load_config(config_path, ["recover.method=g-vbsm", "recover.selection.redraw=5"])
    selection = recovered(config).selection
    assert (selection.redraw, selection.order, selection.logits) == (5, "round-robin", "drawn")


def test_the_protocol_is_the_methods_own_or_one_for_all(config_path: Path) -> None:
    """Rows of one comparison under different protocols; or SRe2L alone under PRISM's."""
    alone = load_config(config_path, ["recover.method=sre2l"])
    assert alone.evaluations["student"].protocol == "sre2l"
    assert alone.evaluations["student"].loss == "kl"
    assert (alone.relabel.teachers, alone.relabel.crop_scale) == ("primary", (0.08, 1.0))
    several = load_config(config_path, [COMPARE])
    assert several.evaluations["student"].protocol == "prism"
    assert several.relabel.teachers == "pool"
    chosen = load_config(config_path, [COMPARE, "evaluate.protocol=edc", "relabel.crop_scale=[0.4, 1.0]"])
    assert chosen.evaluations["student"].ema_decay == 0.99
    assert (chosen.relabel.ensemble, chosen.relabel.crop_scale) == ("mean", (0.4, 1.0))
    only = load_config(config_path, ["evaluations={a: {protocol: sre2l}}"])
    assert (only.evaluations["a"].loss, only.relabel.teachers) == ("kl", "primary")


def test_any_config_takes_any_method(config_path: Path) -> None:
    """A selection refused because the config says how an optimisation would go; or an option ignored."""
    selected = load_config(config_path, ["recover.method=rded"]).image_sets["distilled"]
    assert isinstance(selected, SelectConfig)
    assert selected.init == "rded"
    with pytest.raises(
        ConfigError, match=r"--set recover\.iterations=5: recover\.iterations = 5 has no effect"
    ):
        load_config(config_path, ["recover.method=rded", "recover.iterations=5"])


def test_evaluations_share_too(config_path: Path) -> None:
    """A second evaluation with another student than the first, unasked."""
    named = "evaluations={soft: {}, hard: {labels: hard, image_sets: [random-real]}}"
    config = load_config(config_path, [named, "evaluate.num_students=7"])
    assert {e.num_students for e in config.evaluations.values()} == {7}
    assert config.sets_of("hard") == ("random-real",)
    assert config.sets_of("soft") == ("distilled", "random-real")


def test_a_resolved_config_resolves_to_itself(config_path: Path, tmp_path: Path) -> None:
    """config.yaml of a store that means something else than the run it lies in."""
    for overrides in ([], [COMPARE], ["recover.method=delt"]):
        config = load_config(config_path, overrides)
        path = tmp_path / "resolved.yaml"
        path.write_text(dump_config(config), encoding="utf-8")
        assert load_config(path) == config


def test_a_shared_value_without_effect_is_refused(config_path: Path, tmp_path: Path) -> None:
    """`--set recover.iterations=50` on a store's resolved config: taken, and ignored."""
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_config(load_config(config_path)), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, ["recover.iterations=50"])
    assert str(caught.value).startswith("--set recover.iterations=50: recover.iterations = 50 has no effect")
    assert "image_sets.<name>.iterations" in str(caught.value)
    with pytest.raises(ConfigError, match=r"recover\.selection\.slots = 1 has no effect"):
        load_config(path, ["recover.selection.slots=1"])
    with pytest.raises(
        ConfigError, match=r"--set evaluate\.num_students=9: .* no effect, because each of evaluations"
    ):
        load_config(path, ["evaluate.num_students=9"])
    for override in ("evaluate.protocol=prism", "evaluate.student.arch=timm:resnet18"):
        with pytest.raises(ConfigError, match="has no effect"):
            load_config(path, [override])


@pytest.mark.parametrize("init", ["real", "noise"])
def test_a_selection_keeps_its_own_images(config_path: Path, init: str) -> None:
    """`--set recover.init=...` beside a method that selects: taken, and ignored."""
    with pytest.raises(ConfigError, match=rf"recover\.init = '{init}' has no effect"):
        load_config(config_path, ["recover.method=rded", f"recover.init={init}"])
    assert recovered(load_config(config_path, [f"recover.init={init}"])).init == init


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("image_sets=3", "image_sets = 3: expected a mapping"),
        ("image_sets={}", "image_sets = {} names nothing"),
        ("image_sets.x=3", "image_sets.x = 3: expected a mapping"),
        ("image_sets.x.iterations=0", "image_sets.x.iterations = 0"),
        (
            "image_sets.x.itrations=5",
            "image_sets.x.itrations = 5: unknown key; did you mean image_sets.x.iterations?",
        ),
        ("image_sets.X={}", "image_sets.X"),
        ("recover.method=prsim", "'prsim' is not a method; did you mean 'prism'?"),
        ("image_sets.x={method: edc, init: noise}", "image_sets.x: init_patch_shuffle = True shuffles"),
        ("recover.options.weight=1", "method prism takes no options, got weight"),
        (
            "image_sets={r: {method: rded, iterations: 5}}",
            "image_sets.r.iterations = 5: unknown key; the set's method selects real images",
        ),
        ("image_sets={r: {method: rded, ipcs: 5}}", "unknown key; did you mean image_sets.r.ipc?"),
        ("image_sets={select: {iteration: 5}}", "unknown key; did you mean image_sets.select.iterations?"),
        ("recover.selection.priors={firts: 70}", "recover.selection.priors names 'firts'"),
        ("evaluate.image_sets=[distilled, distilled]", "evaluate.image_sets names 'distilled' twice"),
        ("evaluations.x.image_sets=[nobody]", "evaluations.x.image_sets names 'nobody'"),
        ("evaluate.split=validation", "data.validation_fraction"),
        (
            "evaluations={a: {protocol: sre2l}, b: {protocol: edc}}",
            "evaluations.b.protocol = 'edc', but another evaluation has 'sre2l'",
        ),
        ("evaluate.protocol=fkd", "'fkd' is not a protocol"),
        ("recover.formation=joint", None),
    ],
)
def test_what_is_wrong_with_a_named_set_is_said_by_name(
    config_path: Path, override: str, complaint: str | None
) -> None:
    """A complaint about a key that the user never wrote."""
    if complaint is None:
        assert (
            recovered(load_config(config_path, [override, "recover.iterations_cycle=2"])).formation == "joint"
        )
        return
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, [override])
    assert complaint in str(caught.value)


def test_verifiers_take_no_part(config_path: Path) -> None:
    """A judge that helped to make what it judges."""
    config = load_config(config_path, ["analyze.verifiers=[second]"])
    assert config.label_teachers == ("first",)
    assert config.candidates(recovered(config)) == ()
    assert config.feature_teacher == "second"
    with pytest.raises(ConfigError, match="but analyze.verifiers names it too".replace(".", r"\.")):
        load_config(config_path, ["analyze.verifiers=[first]"])


def test_a_committee_of_two_needs_two(config_path: Path) -> None:
    """CV-DD with a single teacher: no vote, and nobody is told."""
    options = ["recover.method=cv-dd", "analyze.verifiers=[second]"]
    with pytest.raises(ConfigError, match=r"slots = 2: the pool has 1 to draw from \(first\)"):
        load_config(config_path, options)
    assert recovered(load_config(config_path, [*options, "recover.selection.slots=1"])).selection.slots == 1
