"""Orders of classes, and the names of the outputs of library weights."""

import pytest

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.teachers.class_order import check_names, indices_by_name, known_orders, shown_indices


def teacher(arch: str = "torchvision:resnet18@IMAGENET1K_V1", **values: object) -> TeacherConfig:
    return TeacherConfig.model_validate({"name": "x", "arch": arch, **values})


TEXT = tuple(sorted(map(str, range(12))))
NUMBERS = tuple(map(str, range(12)))


def test_orders_of_numbers_and_of_text_lead_to_each_other() -> None:
    """Would catch folder 10 being told as class 2 in the wrong direction."""
    assert known_orders(TEXT) == {"the order of numbers": tuple(map(int, TEXT))}
    assert known_orders(NUMBERS) == {"the order of text": tuple(TEXT.index(name) for name in NUMBERS)}


@pytest.mark.parametrize(
    ("names", "order", "expected"),
    [
        (("class1", "class10", "class2"), "the order of numbers", (0, 2, 1)),
        (("Bee", "Cow", "ant"), "alphabetical order without regard to capital letters", (1, 2, 0)),
        (("goldfish", "great_white_shark", "tench"), "the order of WordNet ids", (1, 2, 0)),
        (("n01440764", "n01443537"), "alphabetical order of readable names", (1, 0)),
        (("ant", "bee", "cow"), None, ()),
    ],
)
def test_the_usual_orders_are_known(names: tuple[str, ...], order: str | None, expected: object) -> None:
    """Would catch an order of the classes that only says "another order"."""
    assert known_orders(names) == ({} if order is None else {order: expected})


@pytest.mark.parametrize("arch", ["torchvision:resnet18@IMAGENET1K_V1", "timm:resnet18@a1_in1k"])
@pytest.mark.parametrize(
    "names", [("tench", "goldfish"), ("n01440764", "n01443537"), ("Tinca_tinca", "goldfish")]
)
def test_classes_are_found_by_the_names_of_the_library(arch: str, names: tuple[str, ...]) -> None:
    """Would catch synsets, or names with an underscore, that are not recognised."""
    assert indices_by_name(teacher(arch), names) == ({0}, {1})


def test_only_known_names_are_compared() -> None:
    """Would catch a refusal of classes that the library's names say nothing about."""
    assert indices_by_name(teacher(), ("tench", "my own fish")) is None
    for arch in ("timm:resnet18", "timm:resnet18@x.pth"):
        check_names(teacher(arch), ("goldfish", "tench"), "key")


@pytest.mark.parametrize("names", [("goldfish", "tench"), ("tench", "goldfish")])
def test_missing_class_indices_are_given_by_name(names: tuple[str, ...]) -> None:
    """Would catch a user who has to look up 100 classes of ImageNet that the library knows."""
    indices = [("tench", "goldfish").index(name) for name in names]
    message = (
        rf"distinguishes 1000 classes, among them by name the 2 of the data; .*class_indices to \{indices}"
    )
    with pytest.raises(ConfigError, match=message):
        check_names(teacher(), names, "key")
    with pytest.raises(ConfigError, match="torchvision has no weights 'IMAGENET'"):
        check_names(teacher("torchvision:resnet18@IMAGENET"), names, "key")


def test_outputs_of_other_names_are_refused() -> None:
    """Would catch the class goldfish being answered as tench by a network that knows both names."""
    check_names(teacher(class_indices=[0, 1]), ("tench", "goldfish"), "key")
    check_names(
        teacher(class_indices=[517, 1]), ("crane", "goldfish"), "key"
    )  # two outputs have the name crane
    check_names(teacher(class_indices=[134, 1]), ("crane", "goldfish"), "key")
    check_names(teacher(class_indices=[5, 4]), ("my own fish", "goldfish"), "key")
    message = (
        r"class 'goldfish' is output 1 by its name, and 0 would be used \(2 of 2 .*class_indices to \[1, 0\]"
    )
    with pytest.raises(ConfigError, match=message):
        check_names(teacher(class_indices=[0, 1]), ("goldfish", "tench"), "key")


def test_long_lists_are_cut() -> None:
    """Would catch an error of a thousand numbers."""
    assert shown_indices(range(3)) == "[0, 1, 2]"
    assert shown_indices(range(1000)).endswith("126, 127, ...]")
