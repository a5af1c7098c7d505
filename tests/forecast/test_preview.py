"""`prism-ray plan` with its forecast, as a user calls it."""

import importlib
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from prism_ray import machine
from prism_ray.analyze.forecast_table import print_forecast
from prism_ray.calibrate.figures import Calibration, Group, settings_of_groups
from prism_ray.cli import main
from prism_ray.cli.terminal import console
from prism_ray.config import load_config
from prism_ray.forecast import preview
from prism_ray.forecast.price import Shape, make_forecast
from prism_ray.machine import Machine, this_machine
from prism_ray.run import match, package_versions
from prism_ray.store import StoreFiles
from tests.forecast.test_price import ALL, MADE
from tests.forecast.test_rates import plan_of

CONFIG = """
store: {store}
data: {{source: digits, image_size: 32}}
teachers: {{pool: [{{name: a, arch: timm:test_resnet}}]}}
recover: {{ipc: 1, primary: a, iterations: 20, iterations_step: 0, init: random}}
evaluate: {{student: {{arch: timm:test_resnet}}, num_students: 2, controls: []}}
orchestrate: {{actors: 2, threads_per_actor: 1}}
"""
SECONDS = {
    "data": {"read_image": 1e-5},
    "squeeze/a": {"step": 0.02, "test_image": 0.001, "rest": 1.0, "load": 0.1},
    "recover/distilled": {"10 a": 0.05, "rest": 0.1},
    "recover/random-real": {"rest": 0.01},
    "relabel": {"view": 0.001, "rest": 0.1},
    "measure": {"image": 0.01},
    "evaluate/student": {"step": 0.02, "test_image": 0.001, "rest": 0.1},
}


@pytest.fixture(autouse=True, scope="module")
def _torch() -> None:
    """Networks are tried in this process if it has torch; to start another one for each test takes long."""
    importlib.import_module("torch")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(store=tmp_path / "run"))
    return path


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["plan", *map(str, words)])
    return result.exit_code, result.output


def forecast_of(*words: object) -> Any:
    result = CliRunner().invoke(main, ["plan", *map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["forecast"]


def calibrated(config: Path, **changes: Any) -> Calibration:
    """Keep a calibration in the store, as if it had been made here."""
    settings = load_config(str(config), (), None)
    files = StoreFiles(settings.store_url)
    asked = match(settings, files, str(config))
    wanted = settings_of_groups(asked.config, asked.facts)
    groups = {name: Group(wanted[name], seconds, 2**30) for name, seconds in SECONDS.items()}
    made = Calibration(
        replace(this_machine(), device="cpu"), package_versions(), 1, 2, "2026-11-27", 60.0, 3.0, groups
    )
    made = replace(made, **changes)
    files.replace("calibration.json", made.to_json())
    return made


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--price", "-1"], ["--price -1", "2.5"]),
        (["--price", "nan"], ["--price nan"]),
        (["--price", "much"], ["--price"]),
        (["--actors", "0"], ["--actors"]),
        (["--assume-classes", "10"], ["--assume-images-per-class", "both"]),
        (["--assume-images-per-class", "10"], ["--assume-classes", "both"]),
        (["--assume-classes", "10", "--assume-images-per-class", "9"], ["digits are always there"]),
        (["--set", "data={source: image-folder, path: absent, image_size: 32}"], ["--assume-classes"]),
        (
            ["--calibrate", "--set", "data={source: image-folder, path: absent, image_size: 32}"],
            ["absent", "--assume-classes"],
        ),
    ],
)
def test_wrong_input_is_named(config: Path, words: list[str], said: list[str]) -> None:
    """Catches a forecast of something else than what was asked, and messages without a remedy."""
    code, output = invoke(config, *words)
    assert code == 2, output
    for text in said:
        assert text in output


def test_a_calibration_for_gpus_needs_one(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches seconds of a CPU for a run on GPUs."""
    monkeypatch.setattr(machine, "gpu_name", lambda: None)
    code, output = invoke(config, "--calibrate", "--set", "orchestrate.gpus_per_actor=1")
    assert code == 2
    assert "gpus_per_actor = 1" in output
    assert "no GPU" in output


def test_a_calibration_in_the_store_is_used(config: Path) -> None:
    """Catches a minute of measuring that the next `plan` does not know of."""
    calibrated(config)
    made = forecast_of(config, "--price", "2")
    assert made["wall_seconds"] > 7.0
    assert made["price"] == pytest.approx(2 * made["actor_hours"], rel=1e-3)
    assert made["notes"] == []
    assert {row["known_from"] for row in made["rows"]} == {"calibration"}
    code, output = invoke(config)
    assert code == 0
    assert "actor-hours" in output
    assert "1 thread" in output


@pytest.mark.parametrize(
    ("changes", "said", "is_used"),
    [
        ({"num_threads": 3}, "made with 3 threads", False),
        ({"machine": Machine("another CPU", 64, "cpu")}, "another machine", True),
        ({"versions": {"torch": "1.0"}}, "torch 1.0 ->", True),
        ({"groups": {}}, "has no figures for", False),
    ],
)
def test_figures_of_other_conditions_are_not_used_silently(
    config: Path, changes: dict[str, Any], said: str, is_used: bool
) -> None:
    """Catches a forecast from another machine, version or number of threads that says nothing about it."""
    calibrated(config, **changes)
    made = forecast_of(config)
    assert any(said in note for note in made["notes"]), made["notes"]
    assert (made["wall_seconds"] is not None) == is_used


def test_figures_of_other_settings_are_left_out(config: Path) -> None:
    """Catches the seconds of a batch of ten for one of five."""
    calibrated(config)
    made = forecast_of(config, "--set", "recover.images_per_batch=5")
    unknown = {row["what"] for row in made["rows"] if row["unit_seconds"] is None}
    assert unknown == {"distilled"}
    assert made["wall_seconds"] is None
    assert any("recover/distilled" in note for note in made["notes"])


def test_a_damaged_calibration_stops_nothing(config: Path, tmp_path: Path) -> None:
    """Catches a `plan` that ends because of figures that it could do without."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/calibration.json").write_text("{")
    made = forecast_of(config)
    assert any("calibration.json is not used" in note for note in made["notes"])


def test_it_calibrates_and_keeps_the_figures(config: Path, tmp_path: Path) -> None:
    """Catches a calibration that cannot be made from the command line, or is not kept."""
    code, output = invoke(config, "--calibrate")
    assert code == 0, output
    assert "calibrating: recover distilled" in output
    assert "actor-hours" in output
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["calibration.json"]
    assert CliRunner().invoke(main, ["status", str(tmp_path / "run")]).exit_code == 2  # still no run
    assert forecast_of(config)["wall_seconds"] > 0.0


def test_a_store_that_cannot_be_written_keeps_nothing(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a calibration that is lost because it cannot be kept."""
    made = calibrated(config)
    (tmp_path / "run/calibration.json").unlink()
    monkeypatch.setattr(preview, "calibrate", lambda *arguments: made)
    folder = tmp_path / "run/calibration.json"
    folder.mkdir()
    (folder / "something").touch()  # a folder in its place: root may write anywhere
    code, output = invoke(config, "--calibrate")
    assert code == 0, output
    assert "not kept" in output
    assert "actor-hours" in output
    assert stat.S_ISDIR(folder.stat().st_mode)


@pytest.mark.parametrize("columns", ["30", "60", "100", "160"])
def test_the_table_fits_the_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches figures that are cut off on a narrow terminal."""
    monkeypatch.setenv("COLUMNS", columns)
    print_forecast(make_forecast(plan_of(), None, Shape(2, 1, 0.0), MADE, ALL, 2.5), console())
    text = capsys.readouterr().out
    assert "evaluate distilled/student" in text
    assert "1.21 GB" in text
    assert "at 2.5 per actor-hour" in text
