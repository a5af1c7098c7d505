"""A sweep on a real Ray, stopped and killed on its way: shared parts are made once and stay readable."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prism_ray.config import Config
from prism_ray.store import Failure, StoreFiles, set_aside
from prism_ray.store.elsewhere import own_name
from prism_ray.sweep.drive import _check_networks
from tests.conftest import SMALL_OVERRIDES, _environment
from tests.plans import config_of
from tests.stores import committed

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

GRID = """
base: {base}
grid:
  recover.bn_weight: [1.0, 0.1]
  evaluate.loss: [mse, kl]
"""
BAD = """
base: {base}
list: [{{evaluate.learning_rate: 0.01}}]
"""
BASE = "grid.bn_weight=1.0,loss=mse"  # the run of the fixture `calm`
OPTIONS = [word for override in SMALL_OVERRIDES for word in ("--set", override)]


class Sweep:
    """The folder of a sweep, and the command on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "all"
        self.home = folder
        base = Path(__file__).resolve().parents[2] / "jobs" / "digits-ipc10.yaml"
        for name, text in (("grid", GRID), ("bad", BAD)):
            (folder / f"{name}.yaml").write_text(text.format(base=base))

    def start(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "prism_ray", *map(str, arguments)],
            cwd=self.home,
            env=_environment(self.home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments)
        out, err = process.communicate(timeout=400)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def sweep(self, *names: str) -> list[str]:
        return ["sweep", *(f"{name}.yaml" for name in names), *OPTIONS, "--store", "all"]

    def cut_off(self, number: signal.Signals, num_commits: int) -> "subprocess.CompletedProcess[str]":
        process = self.start(*self.sweep("grid", "bad"))
        deadline = time.monotonic() + 200.0
        while len(list(self.folder.glob("*/commits/**/*.json"))) < num_commits:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A finished sweep of four points, and a fifth that fails; stopped, then killed, then finished."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sweep = Sweep(tmp_path_factory.mktemp("sweep"))
    stopped = sweep.cut_off(signal.SIGTERM, 1)
    store = StoreFiles(str(sweep.folder / "bad.learning_rate=0.01"))
    set_aside(store, Failure("recover/random-real/i00000-c00000", "EngineError", "not finite", "", "here"))
    assert stopped.returncode == 130, stopped.stderr
    assert "Resume with the same command" in stopped.stderr
    assert "prism-ray sweep grid.yaml bad.yaml" in stopped.stderr
    assert sweep.cut_off(signal.SIGKILL, 20).returncode == -signal.SIGKILL
    ended = sweep.run(*sweep.sweep("grid", "bad"))
    assert ended.returncode == 1, ended.stderr
    assert "recover/random-real/i00000-c00000) failed permanently" in ended.stderr
    assert "retry --failed" in ended.stderr
    assert ended.stderr.count("error:") == 1
    return sweep


def test_each_shared_unit_is_made_once(done: Sweep) -> None:
    """Catches teachers squeezed at every point, images copied, and links, which S3 does not have."""
    assert len(list(done.folder.glob("*/teachers/*/weights-*"))) == 2
    assert len(list(done.folder.glob("*/sets/random-real/images/*.parquet"))) == 2
    assert len(list(done.folder.glob("*/images/*.parquet"))) == 2 * 2
    assert len(list(done.folder.glob("grid.*/students/**/*.json"))) == 6  # distilled 4, random-real 2
    files = [path for path in done.folder.rglob("*") if not path.is_dir()]
    assert not [path for path in files if path.is_symlink() or path.stat().st_nlink > 1]


def test_a_point_has_the_bytes_of_a_run_of_its_own(done: Sweep, calm: Path) -> None:
    """Catches a unit taken from a point with other settings, and units mixed up between points."""

    def contents(store: Path) -> dict[str, list[tuple[str, str]]]:
        return {
            unit: [(own_name(name), sha256) for name, sha256 in parts]
            for unit, parts in committed(store).items()
        }

    assert contents(done.folder / BASE) == contents(calm)


def test_a_finished_sweep_starts_nothing_and_prints_the_table(done: Sweep) -> None:
    """Catches a sweep that is never over, and a table without figures."""
    again = done.run(*done.sweep("grid"))
    assert again.returncode == 0, again.stderr
    assert "Nothing to do" in again.stdout
    assert "Ray" not in again.stdout
    assert again.stdout.count("| complete |") == 2 * 4
    rows = list(csv.DictReader((done.folder / "report" / "grid.csv").read_text().splitlines()))
    assert {row["evaluate.loss"] for row in rows} == {"mse", "kl"}
    assert all(0.0 <= float(row["mean"]) <= 1.0 and int(row["label_bytes"]) > 0 for row in rows)
    assert (done.folder / "report" / "grid.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads(done.run(*done.sweep("grid"), "--json").stdout)
    assert len(figures["sweeps"][0]["points"]) == 4
    assert figures["errors"] == {}


def test_every_command_reads_a_point_and_the_folder_wherever_it_is(done: Sweep, tmp_path: Path) -> None:
    """Catches absolute paths, and commands that look for a shared part in the point's own store."""
    moved = tmp_path / "moved"
    shutil.copytree(done.folder, moved)
    os.rename(done.folder, done.folder.with_name("away"))
    try:
        point = moved / "grid.bn_weight=0.1,loss=kl"
        status = done.run("status", point)
        assert status.returncode == 0, status.stderr
        assert "of these bytes are in the stores of other points" in status.stdout
        assert done.run("verify", point).returncode == 0
        assert done.run("show", point).returncode == 0
        assert done.run("export", point, "--to", tmp_path / "exported").returncode == 0
        of_all = done.run("status", moved)
        assert of_all.returncode == 3  # the fifth point is not complete
        assert "4 of 5 complete" in of_all.stdout
        assert "give one of its points" in done.run("show", moved).stderr
    finally:
        os.rename(done.folder.with_name("away"), done.folder)
    alone = tmp_path / "alone"
    shutil.copytree(point, alone)
    assert "move or copy the whole folder of the sweep" in done.run("verify", alone).stdout


def test_damage_of_a_shared_part_shows_and_is_mended_at_each_point(done: Sweep, tmp_path: Path) -> None:
    """Catches damage that the point cannot see, a repair that deletes another point's file, and a second
    reference to the damaged file."""
    home = tmp_path / "home"
    shutil.copytree(done.home, home)
    sweep = Sweep(home)
    makers = [path for path in sweep.folder.glob("*/teachers/resnet/weights-0.safetensors")]
    (weights,) = makers
    lender = weights.parents[2]
    borrower = next(path for path in sorted(sweep.folder.glob("grid.*")) if path != lender)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    name = f"elsewhere/{lender.name}/teachers/resnet/weights-0.safetensors"
    found = sweep.run("verify", borrower)
    assert found.returncode == 3
    assert name in found.stdout
    assert sweep.run("verify", "--repair", borrower).returncode == 3
    assert weights.read_bytes() == bytes(data)  # it is the lender's
    assert sweep.run("status", lender).returncode == 0

    ended = sweep.run(*sweep.sweep("grid"))
    assert ended.returncode == 0, ended.stderr
    assert sweep.run("verify", borrower).returncode == 0
    assert sweep.run("verify", lender).returncode == 3


def test_other_settings_for_finished_points_are_refused(done: Sweep) -> None:
    """Catches results of other settings under the name of a point."""
    result = done.run(*done.sweep("grid"), "--set", "recover.learning_rate=0.5")
    assert result.returncode == 2
    assert result.stderr.count("contains another run") == 4
    assert "recover.learning_rate" in result.stderr


def test_networks_are_checked_for_what_the_image_sets_of_each_point_ask_of_them() -> None:
    """Catches a point whose BN teacher has no BatchNorm, found after its squeeze; and a check made twice."""
    checked: list[tuple[str, ...]] = []

    def check(names: object, in_store: object, config: Config) -> None:
        checked.append(config.bn_teachers)

    facts = SimpleNamespace(facts=SimpleNamespace(class_names=()))
    works: Any = [
        SimpleNamespace(asked=facts, config=config_of(pool_size=3, **values), progress=None)
        for values in (
            {"recover__selection": {"bn_teachers": ["t1"]}},
            {"recover__selection": {"bn_teachers": ["t2"]}},
            {"recover__selection": {"bn_teachers": ["t1"]}, "recover__learning_rate": 0.5},
        )
    ]
    dispatcher: Any = SimpleNamespace(check_networks=check)
    _check_networks(dispatcher, works)
    assert checked == [("t0", "t1"), ("t0", "t2")]
