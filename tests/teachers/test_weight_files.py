"""What the fingerprint knows of files of weights."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.teachers.weight_files import weights_sha256


def teacher(weights: str) -> TeacherConfig:
    return TeacherConfig(name="x", arch=f"timm:resnet18{weights}")


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    """Would catch other weights under the same path going on in a run, or a moved file ending it."""
    data = b"weights" * 1_000_000  # more than one piece
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
