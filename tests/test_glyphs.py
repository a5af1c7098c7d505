"""jobs/glyphs/render.py: classes, the split by design, the files; a rendering where fonts are installed."""

import gzip
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from prism_ray.config import DataConfig
from prism_ray.data import open_data
from prism_ray.data.idx import read_idx
from tests.programs import load_script

SCRIPT = Path(__file__).parents[1] / "jobs" / "glyphs" / "render.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


def test_class_names_fit_a_file_of_lines(script: ModuleType) -> None:
    """A class named by a character alone: `#` or `\\` upsets a reader, and an empty name is dropped."""
    names = [script.class_name(character) for character in script.CHARACTERS]
    assert len(set(names)) == 94
    assert all(name == name.strip() and "\n" not in name for name in names)
    assert names[0] == "! exclamation mark"
    assert names[-1] == "~ tilde"


def test_one_design_is_in_one_split(script: ModuleType) -> None:
    """Arimo in train and Liberation Sans, the same letters, in test: students recognise what they saw."""
    rng = np.random.default_rng(0)
    shapes = rng.standard_normal((40, 64)).astype(np.float32)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    faces = [script.Face(Path(f"{k}.ttf"), f"family {k}", shape) for k, shape in enumerate(shapes)]
    faces.append(script.Face(Path("copy.ttf"), "another name", shapes[0]))  # the letters of 0.ttf
    faces.append(script.Face(Path("bold.ttf"), "family 1", shapes[2]))  # family 1, letters of 2.ttf
    designs = script.by_design(faces)
    assert len(designs) == 39
    splits = script.split_designs(designs)
    assert sum(map(len, splits.values())) == len(faces)
    of = {face.path.name: split for split, chosen in splits.items() for face in chosen}
    assert of["copy.ttf"] == of["0.ttf"]
    assert of["bold.ttf"] == of["1.ttf"] == of["2.ttf"]


def test_files_are_those_that_the_job_reads(script: ModuleType, tmp_path: Path) -> None:
    """Rows and columns exchanged, or a time in the file, so that no two renderings have the same bytes."""
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "x.gz").write_bytes(script.idx(array))
    assert np.array_equal(read_idx(tmp_path / "x.gz", 3, 2**20), array)
    assert script.idx(array) == script.idx(array.copy())


def test_a_real_rendering(script: ModuleType, tmp_path: Path) -> None:
    """A character cut off or left out, labels beside other images, another picture at each call."""
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    for path in sorted(path for folder in script.FONT_FOLDERS for path in folder.rglob("*Sans*.ttf"))[:8]:
        (fonts / path.name).symlink_to(path)
    faces = script.find_faces([fonts])
    if not faces:
        pytest.skip("no fonts are installed")
    files = script.render_split("train", faces, 2, 32)
    assert files == script.render_split("train", faces, 2, 32)
    (tmp_path / "classes.txt").write_text("".join(f"{script.class_name(c)}\n" for c in script.CHARACTERS))
    for prefix in ("train", "t10k"):
        for kind, content in files.items():
            (tmp_path / f"{prefix}-{kind}-ubyte.gz").write_bytes(content)
    data = open_data(DataConfig(source="idx", path=str(tmp_path), image_size=32, num_classes=94))
    assert data.facts().class_names[32] == "A latin capital letter a"
    assert set(data.facts().train_counts) == {2}
    images = data.read("train", np.arange(188))[:, 0].astype(int)
    contrast = images.max(axis=(1, 2)) - images.min(axis=(1, 2))
    assert contrast.min() > 40  # ink in every picture
    some = gzip.decompress(script.render_split("train", faces, 2, 32, ["A", '"'])["images-idx3"])[16:]
    assert some[:1024] == images[32].astype(np.uint8).tobytes()  # as in the full set
    assert np.array_equal(
        images[1], script.render('"', random.Random(script.number("train", '"', 0)), faces, 32)
    )


def test_a_folder_that_exists_is_left_alone(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of an old set and half of a new one."""
    monkeypatch.setattr(sys, "argv", ["render.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="exists; give a folder that does not"):
        script.main()
