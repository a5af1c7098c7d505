"""A method from another package: the example of docs/methods.md, registered by an entry point and run."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.sites import install

DOCUMENT = Path(__file__).parents[2] / "docs" / "methods.md"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages that holds the example's."""
    return install(tmp_path, DOCUMENT, "prism_tv")


def test_it_is_listed_and_its_options_are_checked(
    site: Path, cli: Callable[..., "CompletedProcess[str]"], digits_config: Path
) -> None:
    """Catches a registry that only knows what is built in, or options that nobody looks at."""
    listed = cli("methods", PYTHONPATH=str(site))
    assert re.search(r"^prism-tv +PRISM with total variation", listed.stdout, re.MULTILINE), listed.stderr
    wrong = ["--set", "recover.method=prism-tv", "--set", "recover.options.wieght=1"]
    refused = cli("plan", digits_config, *wrong, PYTHONPATH=str(site))
    assert refused.returncode == 2
    assert "wieght" in refused.stderr
    unknown = cli("plan", digits_config, *wrong)
    assert unknown.returncode == 2
    assert "'prism-tv' is not a method" in unknown.stderr


@pytest.mark.ray
def test_it_runs_and_its_term_is_recorded(
    site: Path,
    store_with_teachers: Path,
    cli: Callable[..., "CompletedProcess[str]"],
    digits_config: Path,
    small_options: list[str],
) -> None:
    """Catches actors that do not find the method, a preset that is not used, or a term that is not added."""
    store = store_with_teachers
    options = ["--store", store, *small_options, "--set", "recover.method=prism-tv"]
    options += ["--set", "recover.options.weight=0.01"]
    done = cli("recover", digits_config, *options, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    commits = sorted((store / "commits" / "recover" / "distilled").glob("*.json"))
    assert commits
    for path in commits:
        stats = json.loads(path.read_text())["stats"]
        assert stats["last"]["terms"]["total_variation"] > 0
    assert (
        json.loads((store / "plan.json").read_text())["config"]["image_sets"]["distilled"]["learning_rate"]
        == 0.1
    )
