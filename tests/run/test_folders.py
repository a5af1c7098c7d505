"""Names of class folders: the class name wherever every system can hold it, and never two classes in one."""

import json
import os
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.run.folders import describe_folders, folder_names


@pytest.mark.parametrize(
    "name",
    [
        "cat",
        "golden retriever",
        "n01440764",
        "猫",
        "Ärger",
        "ぶどう",
        "a.b",
        "A-1",
        "it's",
        "x" * 200,
        "com10",
        "console",
    ],
)
def test_a_name_that_can_be_a_folder_is_taken(name: str) -> None:
    """Catches numbers where a name would have done."""
    assert folder_names(["other", name]) == ("other", name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", ".hidden", "__pycache__", "a/b", "a\\b", "a:b", "a*", "what?", 'a"b', "<a>", "a|b"),
        *(
            "con",
            "CON",
            "nul.txt",
            "Com1",
            "LPT9.tar.gz",
            "COM¹",
            "aux ",
            "conin$",
            "prn .x",
            "\uff23\uff2f\uff2e",
        ),
        *(
            "dot.",
            "space ",
            " space",
            "new\nline",
            "tab\t",
            "bell\x07",
            "\udc80bytes",
            "zero\u200bwidth",
            "x" * 201,
        ),
        *("猫" * 67, "no\u00a0break"),
    ],
)
def test_a_name_that_some_system_refuses_becomes_the_number(name: str) -> None:
    """Catches a folder that cannot be made, copied or unpacked on Windows or macOS, or that loaders skip."""
    assert folder_names(["other", name]) == ("other", "00001")


def test_names_that_are_one_folder_somewhere_become_numbers() -> None:
    """Catches two classes in one folder on a system without case, or with one Unicode form."""
    assert folder_names(["Cat", "dog", "cat"]) == ("00000", "dog", "00002")
    assert folder_names(["é", "é"]) == ("00000", "00001")
    assert folder_names(["straße", "STRASSE"]) == ("00000", "00001")
    assert folder_names(["a", "a"]) == ("00000", "00001")
    assert folder_names(["e\u0301"]) == ("é",)  # alone: in the usual form


def test_a_number_is_never_the_name_of_another_class() -> None:
    """Catches class 0 in the folder that class 1 has as its name."""
    assert folder_names(["00001", "00000"]) == ("00000", "00001")
    assert folder_names(["00000", "a/b"]) == ("00000", "00001")
    assert folder_names(["x", "00002", "?"]) == ("x", "00001", "00002")
    assert folder_names(["0", "1", "2"]) == ("0", "1", "2")


NAMES = st.lists(
    st.one_of(st.text(max_size=6), st.sampled_from(["00000", "00001", "A", "a", "é", "e\u0301"]))
)


@given(NAMES)
def test_no_two_classes_share_a_folder(names: list[str]) -> None:
    """Catches any two folders that a system without case or with one Unicode form takes for one."""
    folders = folder_names(names)
    keys = {
        unicodedata.normalize("NFC", unicodedata.normalize("NFD", folder).casefold()) for folder in folders
    }
    assert len(keys) == len(folders) == len(names)
    for label, (name, folder) in enumerate(zip(names, folders, strict=True)):
        assert folder in (f"{label:05d}", unicodedata.normalize("NFC", name))


@given(st.text(min_size=1, max_size=8))
def test_a_folder_can_be_made(name: str) -> None:
    """Catches a name that this system, at least, does not take."""
    with tempfile.TemporaryDirectory() as folder:
        (found,) = folder_names([name])
        (Path(folder) / found).mkdir()
        assert os.listdir(folder) == [found]


def test_the_list_of_classes_has_every_name() -> None:
    """Catches names with which JSON or UTF-8 ends."""
    names = ["b", "a", "猫", "a/b", "\udc80"]
    rows = json.loads(describe_folders(names, folder_names(names)).decode(errors="surrogatepass"))
    assert [row["class"] for row in rows] == names
    assert [row["folder"] for row in rows] == ["b", "a", "猫", "00003", "00004"]
    assert [row["label"] for row in rows] == [0, 1, 2, 3, 4]
