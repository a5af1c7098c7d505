"""The forecast of the bytes of soft labels, held against files of drawn views and random logits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.config import DISTILLED
from prism_ray.encodings import find_encoding
from prism_ray.parts.forecast import forecast_label_bytes
from prism_ray.parts.labels import EpochLabels, encode_labels
from prism_ray.parts.views import draw_views
from prism_ray.plan import Plan
from tests.effort import counted_calls
from tests.plans import config_of, facts_of


def written_bytes(plan: Plan) -> int:
    """Return the bytes of all label files of a run, with random logits."""
    rng, relabel = np.random.default_rng(0), plan.config.relabel
    encoding, total = find_encoding(relabel.encoding), 0
    for name in plan.image_sets:
        for unit in plan.units("relabel", name):
            slots = list(plan.formation(name).group_slots(unit.group))
            epochs = []
            for epoch in range(unit.first_epoch, unit.first_epoch + unit.num_epochs):
                logits = rng.normal(size=(len(slots), plan.facts.num_classes)).astype(np.float16)
                epochs.append(EpochLabels(epoch, draw_views(slots, epoch, unit.seed, relabel, 32), logits))
            total += len(encode_labels(epochs, encoding, has_views=relabel.stores_views))
    return total


@settings(deadline=None, max_examples=25)
@given(
    ipc=st.integers(1, 12),
    num_classes=st.integers(3, 120),
    epochs=st.integers(1, 60),
    epochs_per_unit=st.integers(1, 40),
    images_per_group=st.sampled_from([1, 50, 1000]),
    prune_ratio=st.sampled_from([0.0, 0.5, 0.9]),
    encoding=st.sampled_from(["fp16", "int8", "int4", "top-3", "top-2-int8", "top-3-int4"]),
    cutmix=st.booleans(),
    mixup=st.booleans(),
    view_parameters=st.sampled_from(["stored", "drawn"]),
)
def test_the_forecast_is_within_two_percent(
    ipc: int,
    num_classes: int,
    epochs: int,
    epochs_per_unit: int,
    images_per_group: int,
    prune_ratio: float,
    encoding: str,
    cutmix: bool,
    mixup: bool,
    view_parameters: str,
) -> None:
    """Catches a `plan` that forgets epochs, groups, views or the headers of small files."""
    config = config_of(
        recover__ipc=ipc,
        relabel__epochs=epochs,
        relabel__epochs_per_unit=epochs_per_unit,
        relabel__images_per_group=images_per_group,
        relabel__prune_ratio=prune_ratio,
        relabel__encoding=encoding,
        relabel__cutmix_alpha=1.0 if cutmix else 0.0,
        relabel__mixup_alpha=0.8 if mixup else 0.0,
        relabel__view_parameters=view_parameters,
    )
    plan = Plan(config, facts_of(num_classes))
    assert forecast_label_bytes(plan) == pytest.approx(written_bytes(plan), rel=0.02)


def test_the_forecast_of_a_large_run_takes_no_time() -> None:
    """Catches a `plan` that writes gigabytes to see how many there are; ImageNet-1K, 200 images per class."""
    config = config_of(recover__ipc=200, relabel__epochs=300, relabel__encoding="top-100")
    plan = Plan(config, facts_of(1000))
    with counted_calls() as calls:
        found = forecast_label_bytes(plan)
    assert calls.number < 10**7
    views = 300 * sum(plan.num_images(name) for name in plan.image_sets)
    assert 327 < found / views < 360
    assert plan.num_images(DISTILLED) == 200_000
