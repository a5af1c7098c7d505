"""Initial images of image sets, after a run."""

from pathlib import Path

import numpy as np
import pytest

from prism_ray.analyze.initial import initial_key, make_initial_images, same_as
from prism_ray.errors import DataError
from prism_ray.parts.images import ImageForm, read_images
from prism_ray.run import Run
from prism_ray.run.sets import commits_of_set
from prism_ray.store import StoreFiles
from tests.worked import work

SETS = (
    "image_sets={a: {init: random}, b: {init: random, init_patch_shuffle: true}, c: {init: real}, "
    "d: {init: random, replicate: 1}, random-real: {method: random-real}}"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoreFiles, Run]:
    return work(tmp_path_factory.mktemp("initial") / "run", SETS, "recover.iterations=1", until="recover")


def test_the_control_stands_for_sets_that_start_from_it(run: tuple[StoreFiles, Run]) -> None:
    """Catches the control beside a set that started from other images."""
    same = {name: same_as(run[1], name) for name in "abcd"}
    assert same == {"a": "random-real", "b": None, "c": None, "d": None}
    sets = run[1].config.image_sets
    assert len({initial_key(sets[name]) for name in "abcd"}) == 4  # type: ignore[arg-type]


def test_images_are_drawn_again_as_the_run_drew_them(run: tuple[StoreFiles, Run]) -> None:
    """Catches initial images of other slots, or of another draw."""
    files, its_run = run
    commits = commits_of_set(files, its_run, "random-real")
    stored = read_images(files, commits, ImageForm.of(its_run.plan, "random-real"))
    np.testing.assert_array_equal(make_initial_images(files, its_run, "a", stored.slots), stored.images)
    shuffled = make_initial_images(files, its_run, "b", stored.slots)
    assert (shuffled != stored.images).any()
    assert (shuffled.sum(axis=(1, 2, 3)) == stored.images.sum(axis=(1, 2, 3))).all()
    # One step of the optimisation leaves an image near its initial one.
    made = read_images(files, commits_of_set(files, its_run, "c"), ImageForm.of(its_run.plan, "c"))
    initial = make_initial_images(files, its_run, "c", made.slots)
    distance = np.abs(made.images.astype(int) - initial).mean()
    assert distance < 0.3 * np.abs(made.images.astype(int) - initial[::-1]).mean()


def test_other_real_images_are_refused(run: tuple[StoreFiles, Run], tmp_path: Path) -> None:
    """Catches images of a folder that has changed since, shown as those that the run began with."""
    from dataclasses import replace

    files, its_run = run
    other = replace(its_run, facts=replace(its_run.facts, train_counts=(1,) * 10))
    with pytest.raises(DataError, match="are no longer those that"):
        make_initial_images(files, other, "a", [])
