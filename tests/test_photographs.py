"""jobs/photographs/cut.py: what is in which split, and the same pixels each time."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tests.programs import load_script

SCRIPT = Path(__file__).parents[1] / "jobs" / "photographs" / "cut.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


@pytest.fixture(scope="module")
def root(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages with pictures of noise: seven objects of each class, two wallpapers of each kind."""
    root, rng = tmp_path_factory.mktemp("root"), np.random.default_rng(0)

    def write(path: Path, *shape: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)

    for folder in script.THINGS.values():
        for number in range(7):
            write(root / script.STAMPS / folder / f"object{number}.png", 40, 50, 4)
        write(root / script.STAMPS / folder / "cartoon" / "drawn.png", 40, 50, 4)
    share = root / "usr/share"
    for name in ("one", "two"):
        write(share / f"backgrounds/{name}_by_somebody.jpg", 720, 1280, 3)
        write(share / f"backgrounds/mate/nature/{name}.jpg", 960, 1600, 3)
        write(share / f"wallpapers/{name}/contents/images/2560x1600.jpg", 720, 1280, 3)
    Image.new("RGB", (1280, 720)).save(share / "backgrounds/plain_by_somebody.jpg")
    return root


@pytest.fixture(scope="module")
def cut(script: ModuleType, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("cut") / "photographs"
    cut_into(script, root, target)
    return target


def cut_into(script: ModuleType, root: Path, target: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["cut.py", str(target), "--root", str(root)])
        script.main()


def test_every_folder_has_classes_and_splits(script: ModuleType, cut: Path) -> None:
    """Catches a class without test images, one of a plain picture, and drawings among photographs."""
    for name, counts in (("things", script.THING_COUNTS), ("mate", script.CELL_COUNTS)):
        for split, count in counts.items():
            classes = sorted((cut / name / split).iterdir())
            assert len(classes) == (6 if name == "things" else 2)
            assert {len(list(each.iterdir())) for each in classes} == {count}
    assert [path.name for path in sorted((cut / "lomiri/train").iterdir())] == ["one", "two"]
    assert not list(cut.rglob("drawn*"))


def test_an_object_is_in_one_split(cut: Path) -> None:
    """Catches test images that are other views of what the teachers were trained on."""
    for name in ("birds", "fruit"):
        of = [
            {path.name.partition("-")[0] for path in (cut / "things" / split / name).iterdir()}
            for split in ("train", "validation", "test")
        ]
        assert sum(map(len, of)) == len(set.union(*of)) == 7


def test_cells_do_not_overlap(script: ModuleType, root: Path) -> None:
    """Catches pixels of a training image in a test image."""
    picture = Image.open(root / "usr/share/backgrounds/one_by_somebody.jpg")
    cells = script.contrasting_cells(picture, 80)
    assert len(set(cells)) == len(cells) == 16 * 9
    assert all(left % 80 == top % 80 == 0 and left + 80 <= 1280 and top + 80 <= 720 for left, top in cells)


def test_the_same_packages_give_the_same_pixels(
    script: ModuleType, root: Path, cut: Path, tmp_path: Path
) -> None:
    """Catches figures of a document that nobody can measure again, because the folders are others."""
    cut_into(script, root, tmp_path / "again")
    files = sorted(path.relative_to(cut) for path in cut.rglob("*.jpg"))
    assert len(files) == 6 * 160 + 3 * 2 * 120
    assert all((cut / each).read_bytes() == (tmp_path / "again" / each).read_bytes() for each in files)


def test_without_the_packages_it_says_which(script: ModuleType, tmp_path: Path) -> None:
    """Catches an empty folder that image-folder.yaml then complains about."""
    with pytest.raises(SystemExit, match="things: 0 classes found; install the packages of"):
        cut_into(script, tmp_path, tmp_path / "photographs")
    (tmp_path / "there").mkdir()
    with pytest.raises(SystemExit, match="there exists; give a folder that does not"):
        cut_into(script, tmp_path, tmp_path / "there")
