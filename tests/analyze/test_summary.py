"""The figures that `distill` and `status` print."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from prism_ray.analyze.summary import print_summary, summarise
from prism_ray.config import load_config, with_controls
from prism_ray.data import open_data
from prism_ray.run import new_run, read_progress, save_run
from prism_ray.store import Commit, PartFile, StoreFiles, write_commit


def commit(unit: str, fingerprint: str, stats: dict[str, object], num_bytes: int, seconds: float) -> Commit:
    part = PartFile(f"students/{unit}.json", num_bytes, "0" * 64)
    return Commit(unit, fingerprint, (part,), stats, seconds, "host", "2026-11-23T00:00:00+00:00")


def test_figures_are_those_of_the_commits(digits_config: Path, tmp_path: Path) -> None:
    """Catches a mean over the wrong students, a wrong spread, or bytes and seconds of units not counted."""
    files = StoreFiles(str(tmp_path / "run"))
    config = load_config(digits_config, store=files.location)
    run = save_run(files, new_run(config, open_data(config.data).facts(), 1))
    for number, accuracy in enumerate((0.9, 0.96)):
        unit = f"evaluate/distilled/student/s{number:03d}"
        files.create(f"students/{unit}.json", b"x" * 10)
        stats: dict[str, object] = {"accuracy": accuracy, "train_loss": 1.0}
        write_commit(files, commit(unit, run.fingerprint_of(unit), stats, 10, 2.5))
    summary = summarise(files, run, read_progress(files, run))
    assert not summary.complete
    (student,) = summary.results.rows
    assert student.image_set == "distilled"
    assert student.mean == pytest.approx(0.93)
    assert student.spread == pytest.approx(0.0424264, abs=1e-6)
    evaluate = next(stage for stage in summary.stages if stage.stage == "evaluate")
    assert (evaluate.num_done, evaluate.num_units) == (2, 4)
    assert (evaluate.num_bytes, evaluate.actor_seconds) == (20, 5.0)
    assert summary.num_bytes == 20
    assert summary.to_json()["results"]["rows"][0]["mean"] == pytest.approx(0.93)

    text = io.StringIO()
    print_summary(summary, Console(file=text, width=120))
    assert "93.00 +- 4.24 %" in text.getvalue()
    assert "2/4" in text.getvalue()


def test_no_figure_is_cut_on_a_narrow_terminal(digits_config: Path, tmp_path: Path) -> None:
    """Catches an accuracy of `56.58 ...` at the usual width, because eight students stand beside it."""
    files = StoreFiles(str(tmp_path / "run"))
    config = load_config(digits_config, ["evaluate.num_students=8"], store=files.location)
    run = save_run(files, new_run(config, open_data(config.data).facts(), 1))
    accuracies = [0.51 + 0.01 * number for number in range(8)]
    for number, accuracy in enumerate(accuracies):
        unit = f"evaluate/distilled/student/s{number:03d}"
        files.create(f"students/{unit}.json", b"x" * 10)
        stats: dict[str, object] = {"accuracy": accuracy, "best_accuracy": 0.6, "top5_accuracy": 0.91}
        write_commit(files, commit(unit, run.fingerprint_of(unit), stats, 10, 2.5))
    text = io.StringIO()
    print_summary(summarise(files, run, read_progress(files, run)), Console(file=text, width=80))
    words = text.getvalue().split()
    for shown in ("54.50", "60.00", "91.00", *(f"{100 * accuracy:.2f}" for accuracy in accuracies)):
        assert shown in words
    assert "…" not in text.getvalue()


def test_controls_and_spreads_fit_a_narrow_terminal(digits_config: Path, tmp_path: Path) -> None:
    """Catches a gain or a score that is cut at the usual width, and `--json` without what the tables say."""
    files = StoreFiles(str(tmp_path / "run"))
    controls = ["evaluate.controls=[hard-labels, no-augmentation, full-data]"]
    config = with_controls(load_config(digits_config, controls, store=files.location), None, "test")
    run = save_run(files, new_run(config, open_data(config.data).facts(), 1))
    for unit in run.plan.units("evaluate"):
        files.create(f"students/{unit.id}.json", b"x" * 10)
        accuracy = 0.98 if unit.image_set == "full-data" else 0.5 + 0.1 * (unit.image_set == "distilled")
        stats: dict[str, object] = {"accuracy": accuracy, "best_accuracy": 0.6, "top5_accuracy": 0.91}
        write_commit(files, commit(unit.id, run.fingerprint_of(unit.id), stats, 10, 2.5))
    summary = summarise(files, run, read_progress(files, run))
    text = io.StringIO()
    print_summary(summary, Console(file=text, width=80))
    shown = text.getvalue()
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    (line,) = [line for line in shown.splitlines() if line.startswith(" distilled") and "(+10.0)" in line]
    assert line.split()[1:] == ["60.0", "(+10.0)", "60.0", "(+10.0)", "60.0", "(+10.0)", "21.3", "31.4"]
    assert "359 test images allow +-2.6 points" in shown
    values = json.loads(json.dumps(summary.to_json()))
    assert values["fair"]["num_test_images"] == 359
    assert values["fair"]["evaluations"][0]["full_data"]["mean"] == 0.98
    assert values["results"]["rows"][0]["test_error"] == pytest.approx(0.0259, abs=1e-4)
    assert values["missing_controls"] == ""
