"""What every source offers: held-out images, arrays in memory, checks of a config against the data."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prism_ray.config import Config, RecoverConfig, SelectionConfig, parse_config
from prism_ray.data import DataFacts, check_config
from prism_ray.data.base import ArrayImages, Split
from prism_ray.data.base import held_out as choose
from prism_ray.errors import ConfigError

NAMES = st.sampled_from(["digits", "image-folder", "x"])


def held_out(name: str, label: int, count: int, fraction: float) -> npt.NDArray[np.bool_]:
    """The choice among `count` files of a class."""
    return choose(name, f"class {label}", [f"{place}.png" for place in range(count)], fraction)


class Seen(np.ndarray):  # type: ignore[type-arg]
    """Labels that count the passes over all of them."""

    num_passes = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        Seen.num_passes += 1
        plain = [np.asarray(each) if isinstance(each, Seen) else each for each in inputs]
        return getattr(ufunc, method)(*plain, **options)


def test_the_images_of_all_classes_are_found_in_one_pass() -> None:
    """Catches a pass over 1.3 million labels for each of 1,000 classes; images of another class or order."""
    labels = np.random.default_rng(0).integers(0, 199, 1000)  # none of the last class
    names = tuple(map(str, range(200)))
    images = np.zeros((1000, 1, 1), np.uint8)
    data = ArrayImages("x", names, {"train": images}, {"train": labels.view(Seen)}, 1)
    found = [data.train_indices(label) for label in range(200)]
    assert Seen.num_passes <= 2
    assert all(np.array_equal(own, np.flatnonzero(labels == label)) for label, own in enumerate(found))


@given(
    name=NAMES,
    label=st.integers(0, 1000),
    count=st.integers(2, 300),
    fraction=st.floats(0, 1, exclude_min=True, exclude_max=True),
)
@example(name="x", label=0, count=2, fraction=0.001)
@example(name="x", label=0, count=2, fraction=0.999)
@example(name="x", label=0, count=3, fraction=0.5)
def test_the_held_out_share_is_respected_and_never_all_or_nothing(
    name: str, label: int, count: int, fraction: float
) -> None:
    """A class without a test image, or without any training image, after rounding."""
    chosen = held_out(name, label, count, fraction)
    assert chosen.shape == (count,)
    assert chosen.dtype == np.bool_
    num_test = int(chosen.sum())
    assert 1 <= num_test <= count - 1
    assert abs(num_test - count * fraction) <= 1


@given(name=NAMES, label=st.integers(0, 1000), count=st.integers(2, 100), fraction=st.floats(0.1, 0.9))
def test_the_held_out_choice_is_stable(name: str, label: int, count: int, fraction: float) -> None:
    """Test images of one run that are training images of the next."""
    assert np.array_equal(held_out(name, label, count, fraction), held_out(name, label, count, fraction))


def test_a_larger_share_holds_out_the_same_images_and_more() -> None:
    """A choice that depends on the fraction: runs with different shares share no test images."""
    small, large = held_out("x", 3, 100, 0.2), held_out("x", 3, 100, 0.4)
    assert (small.sum(), large.sum()) == (20, 40)
    assert np.all(large[small])


def test_the_held_out_choice_differs_between_classes_and_sources() -> None:
    """The same places of every class, which in ordered sources are the same writer or camera."""
    choices = {held_out(name, label, 100, 0.2).tobytes() for name in ("a", "b") for label in range(5)}
    assert len(choices) == 10


def test_held_out_places_are_spread_over_the_class() -> None:
    """The first or last images of the source as test set, which are seldom like the rest."""
    places = np.flatnonzero(held_out("digits", 0, 1000, 0.2))
    assert 400 < places.mean() < 600
    assert places.min() < 50
    assert places.max() > 950


def test_another_file_moves_no_other_image() -> None:
    """One file added to a class, and half of its test images turn up in the training set."""
    files = [f"{place}.png" for place in range(100)]
    before = set(np.flatnonzero(choose("x", "cat", files, 0.2)))
    after = set(np.flatnonzero(choose("x", "cat", [*files, "new.png"], 0.2)))
    assert len(before - after) <= 1


def test_a_class_of_one_image_keeps_it_for_training() -> None:
    """The only image of a class held out for the test."""
    assert held_out("x", 0, 1, 0.9).tolist() == [False]


# Arrays in memory


def arrays_of(
    size: int = 4,
    *,
    name: str = "some",
    pixel: int = 0,
    label: int = 0,
    swapped: bool = False,
) -> ArrayImages:
    """Six training and three test images of 4x4 pixels in three classes."""
    images: dict[Split, npt.NDArray[np.uint8]] = {
        "train": np.arange(96, dtype=np.uint8).reshape(6, 4, 4),
        "test": np.arange(100, 148, dtype=np.uint8).reshape(3, 4, 4),
    }
    labels: dict[Split, npt.NDArray[np.int64]] = {
        "train": np.asarray([0, 1, 0, 1, 1, 2]),
        "test": np.asarray([2, 1, 0]),
    }
    images["test"][0, 0, 0] += pixel
    labels["test"][0] -= label
    if swapped:
        images["train"][[0, 1]] = images["train"][[1, 0]]
    return ArrayImages(name, ("a", "b", "c"), images, labels, size)


def test_facts_count_the_training_images_of_each_class() -> None:
    """Counts of both splits together: an IPC that the training images cannot give passes the check."""
    facts = arrays_of().facts()
    assert facts.class_names == ("a", "b", "c")
    assert facts.train_counts == (2, 3, 1)
    assert all(type(count) is int for count in facts.train_counts)
    assert (facts.num_classes, facts.num_test_images, facts.channels) == (3, 3, 1)
    assert facts.identity == arrays_of().identity()


def test_training_indices_are_those_of_the_class_in_the_order_of_the_source() -> None:
    """IPC index k that starts from another image than the k-th of its class."""
    data = arrays_of()
    assert [data.train_indices(label).tolist() for label in range(3)] == [[0, 2], [1, 3, 4], [5]]


def test_read_returns_the_asked_images_in_the_asked_order() -> None:
    """Images sorted, or made unique, on the way: pixels and labels part company."""
    data = arrays_of()
    read = data.read("train", np.asarray([5, 0, 0]))
    expected = np.arange(96, dtype=np.uint8).reshape(6, 1, 4, 4)[[5, 0, 0]]
    assert read.dtype == np.uint8
    assert read.shape == (3, 1, 4, 4)
    assert np.array_equal(read, expected)
    assert np.array_equal(data.read("test", np.asarray([1]))[0, 0], np.arange(116, 132).reshape(4, 4))


@pytest.mark.parametrize("size", [2, 4, 7])
def test_read_resizes_and_takes_an_empty_request(size: int) -> None:
    """np.stack of nothing, or images that keep the source's size."""
    data = arrays_of(size)
    assert data.read("train", np.zeros(0, np.int64)).shape == (0, 1, size, size)
    assert data.read("train", np.asarray([1, 2])).shape == (2, 1, size, size)


def test_resizing_keeps_an_even_image_even() -> None:
    """A resize that darkens the border."""
    grey: npt.NDArray[np.uint8] = np.full((1, 5, 5), 77, np.uint8)
    labels = np.zeros(1, np.int64)
    data = ArrayImages("x", ("a",), {"train": grey, "test": grey}, {"train": labels, "test": labels}, 12)
    assert np.all(data.read("train", np.asarray([0])) == 77)


def test_what_is_read_can_be_written_to() -> None:
    """A view of the source: augmenting a batch in place would change the data set."""
    data = arrays_of()
    read = data.read("train", np.asarray([0]))
    before = read.copy()
    read += 1
    assert np.array_equal(data.read("train", np.asarray([0])), before)


@pytest.mark.parametrize("change", [{"pixel": 1}, {"label": 1}, {"swapped": True}, {"name": "other"}])
def test_the_identity_changes_with_whatever_the_images_are(change: dict[str, Any]) -> None:
    """Changed images under an old fingerprint: a resumed run mixes two data sets."""
    assert arrays_of(**change).identity() != arrays_of().identity()


def test_the_identity_does_not_depend_on_the_size_of_use() -> None:
    """image_size is a setting with a line of its own in the difference; the data are the same."""
    assert arrays_of(8).identity() == arrays_of(4).identity()


# A config against the data


def config_of(*, ipc: int = 3, init: str = "real", num_classes: int | None = None) -> Config:
    return parse_config(
        {
            "store": "x",
            "data": {"source": "digits", "image_size": 8, "num_classes": num_classes},
            "teachers": {"pool": [{"name": "a", "arch": "timm:x"}]},
            "recover": {"ipc": ipc, "primary": "a", "init": init, "iterations_step": 0},
            "evaluate": {"student": {"arch": "timm:x"}},
        },
        "test",
    )


FACTS = DataFacts(("cat", "dog", "owl"), (9, 3, 4), num_test_images=5, channels=3, identity="x")


@pytest.mark.parametrize(
    ("ipc", "init", "num_classes"), [(3, "real", None), (3, "real", 3), (4, "noise", None), (99, "noise", 3)]
)
def test_a_config_that_fits_the_data_passes(ipc: int, init: str, num_classes: int | None) -> None:
    """An IPC equal to the smallest class refused, or noise said to need real images."""
    check_config(config_of(ipc=ipc, init=init, num_classes=num_classes), FACTS, "job.yaml")


@pytest.mark.parametrize("num_classes", [1, 2, 4])
def test_another_number_of_classes_is_refused(num_classes: int) -> None:
    """The wrong folder of data, distilled for a day."""
    with pytest.raises(ConfigError) as caught:
        check_config(config_of(num_classes=num_classes), FACTS, "job.yaml")
    message = str(caught.value)
    assert message.startswith(f"job.yaml: data.num_classes = {num_classes}: the data has 3 classes")
    assert "(cat, dog, owl)" in message


def test_more_images_than_the_smallest_class_has_are_refused() -> None:
    """A class that runs out of real images in round 4, or is silently given fewer."""
    with pytest.raises(ConfigError) as caught:
        check_config(config_of(ipc=4), FACTS, "job.yaml")
    message = str(caught.value)
    assert message.startswith("job.yaml: recover.ipc = 4: ")
    assert "class 'dog' has 3" in message
    assert "lower recover.ipc or set recover.init to noise" in message


def test_the_remedy_for_too_few_images_is_one_that_the_set_has() -> None:
    """To set recover.init to noise, for a set of another name that starts from real images only."""
    values = config_of().model_dump(mode="json")
    values["image_sets"] = {"patches": {"method": "rded", "ipc": 1, "primary": "a", "replicate": 1}}
    with pytest.raises(ConfigError) as caught:
        check_config(parse_config(values, "job.yaml"), FACTS, "job.yaml")
    message = str(caught.value)
    assert message.startswith(
        "job.yaml: image_sets.patches.ipc = 1: init rded of replicate 1 needs 8 training"
    )
    assert message.endswith("; lower image_sets.patches.ipc or collect.rded_patches_per_side")


def test_an_encoding_of_more_logits_than_classes_is_refused() -> None:
    """Labels that are found impossible after hours of recover."""
    for name, fits in (("top-3", True), ("top-4", False)):
        values = config_of().model_dump(mode="json")
        values["relabel"]["encoding"] = name
        config = parse_config(values, "job.yaml")
        if fits:
            check_config(config, FACTS, "job.yaml")
            continue
        with pytest.raises(ConfigError) as caught:
            check_config(config, FACTS, "job.yaml")
        assert "relabel.encoding = 'top-4': it needs data of 4 or more classes" in str(caught.value)


def test_a_thousand_class_names_do_not_fill_the_screen() -> None:
    """An error message of 30 kB."""
    names = tuple(f"class {k}" for k in range(1000))
    facts = DataFacts(names, (5,) * 1000, num_test_images=1, channels=3, identity="x")
    with pytest.raises(ConfigError) as caught:
        check_config(config_of(num_classes=10), facts, "job.yaml")
    assert "class 9, ...)" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_votes_by_accuracy_need_images_to_measure_it_on() -> None:
    """Test labels that weigh the teachers of the images that are tested on them."""
    votes = {"votes": "prior", "include_primary": False, "slots": 1, "inclusion_probability": 1.0}
    base = config_of(ipc=2)
    distilled = base.image_sets["distilled"]
    assert isinstance(distilled, RecoverConfig)

    def with_votes(**more: object) -> Config:
        selection = SelectionConfig.model_validate(votes | more)
        sets = {"distilled": distilled.model_copy(update={"selection": selection})}
        return base.model_copy(update={"image_sets": sets})

    with pytest.raises(ConfigError, match=r"recover\.selection\.votes = 'prior' needs"):
        check_config(with_votes(), FACTS, "job.yaml")
    names = base.candidates(distilled) or (base.primary,)
    check_config(with_votes(priors=dict.fromkeys([*names, base.primary], 50.0)), FACTS, "job.yaml")
