"""A method from another package: the example of docs/methods.md, registered by an entry point and run."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "methods.md"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages that holds the example's, as pip would have left it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(# prism_tv\.py\n.*?)```", text, re.DOTALL)
    (entry,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    group, line = re.fullmatch(r'\[project\.entry-points\."(.+)"\]\n(.+)\n', entry).groups()  # type: ignore[union-attr]
    folder = tmp_path / "site"
    info = folder / "prism_tv-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "prism_tv.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: prism-tv\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    return folder


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
