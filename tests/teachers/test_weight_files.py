"""What the fingerprint knows of files of weights."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.teachers.weight_files import split_network, weights_sha256


def teacher(weights: str) -> TeacherConfig:
    return TeacherConfig(name="x", arch=f"timm:resnet18{weights}")


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    """Would catch other weights under the same path going on in a run, or a moved file ending it."""
    data = b"\x80weights" * 1_000_000  # more than one piece
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_bytes(data)
        digest = weights_sha256(teacher(f"@{tmp_path / name}"), "key")
        assert digest == hashlib.sha256(data).hexdigest()


def test_weights_that_are_no_file_have_no_hash() -> None:
    """Would catch a tag being looked for as a file."""
    assert weights_sha256(teacher(""), "key") is None
    assert weights_sha256(teacher("@pretrained"), "key") is None


def test_a_missing_file_names_the_key(tmp_path: Path) -> None:
    """Would catch a traceback from `plan` for a mistyped path."""
    with pytest.raises(ConfigError, match=r"teachers\.pool\.1\.arch = .*none\.pth cannot be read"):
        weights_sha256(teacher(f"@{tmp_path / 'none.pth'}"), "teachers.pool.1")


def test_it_loads_no_torch() -> None:
    """Would catch `plan` and `status` waiting seconds for torch."""
    code = "import sys, prism_ray.teachers.weight_files; print({'torch', 'timm'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_a_key_is_part_of_the_identity(tmp_path: Path) -> None:
    """Would catch a run that goes on with another network of the same file."""
    path = tmp_path / "x.pth"
    path.write_bytes(b"\x80 some weights")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights_sha256(teacher(f"@{path}"), "key") == digest
    assert weights_sha256(teacher(f"@{path}#model_ema"), "key") == f"{digest}#model_ema"


def test_a_sign_in_a_name_is_no_key(tmp_path: Path) -> None:
    """Would catch a file `a#b.pth` that cannot be named, or whose folder is cut at the sign."""
    folder = tmp_path / "run #1"
    folder.mkdir()
    for name in ("x#y.pth", "z.pth"):
        (folder / name).touch()
    assert split_network(f"{folder}/x#y.pth") == (f"{folder}/x#y.pth", None)
    assert split_network(f"{folder}/x#y.pth#model") == (f"{folder}/x#y.pth", "model")
    assert split_network(f"{folder}/z.pth#a#b") == (f"{folder}/z.pth", "a#b")
    assert split_network(f"{folder}/gone.pth#model") == (f"{folder}/gone.pth", "model")
    assert split_network("https://host/x.pth#model") == ("https://host/x.pth", "model")
    with pytest.raises(ValueError, match="no key follows the #"):
        split_network(f"{folder}/z.pth#")


def test_a_local_name_is_no_chain_of_file_systems(tmp_path: Path) -> None:
    """Would catch `::` or `*` in the name of a file that means something to fsspec."""
    path = tmp_path / "exp::seed*" / "x.pth"
    path.parent.mkdir()
    path.write_bytes(b"\x80 some weights")
    assert weights_sha256(teacher(f"@{path}"), "key") == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.pth", b"", r"it is empty \(0 bytes\)"),
        ("x.safetensors", b"", r"it is empty \(0 bytes\)"),
        (
            "x.pth",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "it is a Git LFS pointer.*`git lfs pull`",
        ),
        ("x.pth", b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html>404</html>", "it is a web page"),
        ("x.safetensors", b"<html>", "it is a web page"),
        ("x.pth", b'{"error": "not found"}', r"it is a text that begins with '\{\"error\""),
        ("x.pth", b"\x1f\x8b\x08\x00", "it is packed with gzip; unpack it first"),
        ("x.pth", (2).to_bytes(8, "little") + b"{}", "it is a safetensors file by its content"),
        ("x.safetensors", b"PK\x03\x04", r"it is a file of torch\.save by its content"),
    ],
)
def test_what_is_evidently_no_such_file_is_told_without_torch(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    """Would catch a download page or a pointer that `plan` takes for weights."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=f"cannot be read: {message}") as caught:
        weights_sha256(teacher(f"@{tmp_path / name}"), "key")
    assert "\n" not in str(caught.value)


def test_a_folder_names_the_files_in_it(tmp_path: Path) -> None:
    """Would catch `not a regular file` for the folder of a downloaded network."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=r"it is a folder; give the path of a file in it \(model\.safet"):
        weights_sha256(teacher(f"@{tmp_path}"), "key")
