"""Labels without the parameters of their views: drawn again as they were, or refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prism_ray.parts.redraw
from prism_ray.encodings import find_encoding
from prism_ray.errors import StoreError
from prism_ray.parts.labels import EpochLabels, LabelForm, LabelReader, encode_labels, join_labels
from prism_ray.parts.views import Views, draw_views
from prism_ray.plan import Plan
from prism_ray.stages.relabel import RelabelUnit, label_part
from prism_ray.store import Commit, StoreFiles, write_part
from tests.plans import config_of, facts_of

DRAWN = {"relabel__view_parameters": "drawn", "relabel__encoding": "int8"}


def plan_of(**values: Any) -> Plan:
    return Plan(config_of(relabel__epochs=5, relabel__epochs_per_unit=2, **(DRAWN | values)), facts_of(4))


def labels_of(plan: Plan, unit: RelabelUnit) -> list[EpochLabels]:
    """The labels of a unit as relabel makes them, with random logits."""
    rng, found = np.random.default_rng(unit.seed % 2**32), []
    slots = list(plan.formation(unit.image_set).group_slots(unit.group))
    for epoch in range(unit.first_epoch, unit.first_epoch + unit.num_epochs):
        views = draw_views(slots, epoch, unit.seed, plan.config.relabel, plan.config.data.image_size)
        logits = rng.normal(size=(len(slots), plan.facts.num_classes)).astype(np.float16)
        found.append(EpochLabels(epoch, views, logits))
    return found


def write(files: StoreFiles, plan: Plan, unit: RelabelUnit, epochs: Sequence[EpochLabels]) -> Commit:
    relabel = plan.config.relabel
    data = encode_labels(epochs, find_encoding(relabel.encoding), has_views=relabel.stores_views)
    part = write_part(files, lambda attempt: label_part(unit, attempt), data)
    return Commit(unit.id, "abc", (part,), {}, 1.0, "here", "now")


def turned(views: Views, name: str) -> Views:
    """Return the views with one parameter of the first changed by one."""
    values = vars(views)[name].copy()
    values[0] = not values[0] if values.dtype == np.bool_ else values[0] ^ 1
    return replace(views, **{name: values})


@settings(deadline=None, max_examples=20)
@given(
    ipc=st.integers(1, 6),
    images_per_group=st.sampled_from([1, 7, 1000]),
    cutmix_alpha=st.sampled_from([0.0, 1.0]),
    mixup_alpha=st.sampled_from([0.0, 0.8]),
    rand_augment=st.booleans(),
    patch_shuffle=st.booleans(),
)
def test_what_is_left_out_comes_back(
    tmp_path_factory: pytest.TempPathFactory, ipc: int, **relabel: Any
) -> None:
    """Catches a parameter that is drawn otherwise when it is read: labels would be of other views."""
    plan = plan_of(recover__ipc=ipc, **{f"relabel__{key}": value for key, value in relabel.items()})
    files = StoreFiles(str(tmp_path_factory.mktemp("store")))
    commits, made = [], {}
    for unit in plan.units("relabel", "distilled"):
        epochs = labels_of(plan, unit)
        commits.append(write(files, plan, unit, epochs))
        for labels in epochs:
            made.setdefault(labels.epoch, []).append(labels)
    reader = LabelReader(files, commits, LabelForm.of(plan, "distilled"))
    for epoch, parts in made.items():
        found, expected = reader.sound_epoch(epoch, "distilled"), join_labels(parts)
        for name, values in vars(expected.views).items():
            read = vars(found.views)[name]
            assert (read.dtype, read.tolist()) == (values.dtype, values.tolist()), name


def test_they_take_fewer_bytes() -> None:
    """Catches columns that are written all the same: a bit and the key stay of 10 bytes."""
    plan = Plan(config_of(recover__ipc=10, relabel__epochs=40, relabel__epochs_per_unit=40), facts_of(100))
    epochs = labels_of(plan, next(plan.units("relabel", "distilled")))
    rows = 40 * 1000
    encoding = find_encoding("int4")
    whole, less = (len(encode_labels(epochs, encoding, has_views=each)) / rows for each in (True, False))
    assert whole - less > 9.0
    assert less - encoding.bytes_per_view(100) < 5.0  # of which 4.4 are the levels of a Parquet list


@pytest.mark.parametrize("name", ["crop_top", "flip", "partner_label", "box_width", "augment_seed"])
def test_views_that_another_numpy_draws_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Catches students that train on labels of other views, because a library changed its random numbers."""
    plan, files = plan_of(), StoreFiles(str(tmp_path))
    unit = next(plan.units("relabel", "distilled"))
    commit = write(files, plan, unit, labels_of(plan, unit))
    draw = prism_ray.parts.redraw.draw_views
    monkeypatch.setattr(prism_ray.parts.redraw, "draw_views", lambda *given: turned(draw(*given), name))
    with pytest.raises(StoreError, match=r"views of epoch 0 cannot be drawn again: numpy \d") as caught:
        LabelReader(files, [commit], LabelForm.of(plan, "distilled")).epoch(0)
    assert "prism-ray verify" in str(caught.value)


def test_rows_of_another_group_or_order_are_refused(tmp_path: Path) -> None:
    """Catches labels that are taken for those of other images."""
    plan, files = plan_of(), StoreFiles(str(tmp_path))
    unit = next(plan.units("relabel", "distilled"))
    (first, *_), form = labels_of(plan, unit), LabelForm.of(plan, "distilled")
    backwards = EpochLabels(0, first.views.pick(np.arange(len(first.views))[::-1]), first.logits[::-1])
    commit = write(files, plan, unit, [backwards])
    with pytest.raises(StoreError, match="epoch 0 are not the images of the group in order"):
        LabelReader(files, [commit], form).epoch(0)
    other = replace(commit, unit="relabel/distilled/g00009-e00000")
    with pytest.raises(StoreError, match="g00009-e00000 is not a unit of this run"):
        LabelReader(files, [other], form).epoch(0)
