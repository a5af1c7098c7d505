"""A run of ImageNet-1K's shape with tiny networks, through the real stages and store.

    python benchmarks/rehearsal.py

1,000 classes of 10 images of 224 pixels, labels of all of them for some epochs, one student. The networks see
32 pixels, so that what is not network arithmetic can be seen. It is done at two points, the whole shape and a
smaller one (a third of the images, half the epochs). The laws of growth are compared with both, and give what
300 epochs and 50 images per class take (growth.py has the laws of single operations).

Each step is a process of its own, and what it took is kept in the folder. `--steps 1` does one more step and
ends: a long rehearsal can be done in pieces.
"""

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from asking import asked
from rehearsal_table import Point, print_tables
from whereabouts import FOLDER, watched_actor_class

from prism_ray.data.base import IN_MEMORY_BYTES
from prism_ray.machine import num_cores, peak_resident_bytes, this_machine

STAGES = ("squeeze", "recover", "relabel", "measure", "evaluate")
COMMANDS = ("status", "plan", "verify", "show", "report", "export", "load")
STEPS = (*STAGES[:2], "verify images", *STAGES[2:], *COMMANDS)
_ARCHS = ("timm:test_resnet", "timm:test_byobnet")  # the first is the primary, and the student too
_NAMES = tuple(arch.partition("_")[2] for arch in _ARCHS)
_NUM_TEST = 1  # pictures of a class
_IMAGES_PER_BATCH = 100


@dataclass(frozen=True)
class Rehearsal:
    """The shape of the whole, and the folder of all that it makes."""

    folder: Path
    classes: int
    ipc: int
    epochs: int
    size: int
    input_size: int
    iterations: int

    @property
    def points(self) -> dict[str, Point]:
        """The smaller shape, and the whole one."""
        num_test = _NUM_TEST * self.classes
        assert 3 * num_test * self.size**2 <= IN_MEMORY_BYTES
        sizes = {"small": (max(1, self.ipc // 3), max(1, self.epochs // 2)), "whole": (self.ipc, self.epochs)}
        return {
            name: Point(
                num_images=self.classes * ipc,
                num_epochs=epochs,
                num_ranges=-(-epochs // self._epochs_per_unit(epochs)),
                num_decoded=num_test,  # once: they fit into memory
            )
            for name, (ipc, epochs) in sizes.items()
        }

    def config(self, point: str) -> dict[str, Any]:
        """Return the config of a point as plain data; all that is not here has its default."""
        shape = self.points[point]
        pool = [
            {"name": name, "arch": f"{arch}@{self.weights(name)}", "input_size": self.input_size}
            for name, arch in zip(_NAMES, _ARCHS, strict=True)
        ]
        return {
            "store": str(self.folder / point),
            "data": {
                "source": "image-folder",
                "path": str(self.folder / "pictures" / "train"),
                "test_path": str(self.folder / "pictures" / "test"),
                "image_size": self.size,
                "num_classes": self.classes,
            },
            "teachers": {"pool": pool, "check_accuracy": False},  # with weights, as those of the full job
            "recover": {
                "ipc": shape.num_images // self.classes,
                "primary": _NAMES[0],
                "iterations": self.iterations,
                "iterations_step": 0,
                "images_per_batch": _IMAGES_PER_BATCH,
            },
            "image_sets": {"prism": {}},
            "relabel": {
                "epochs": shape.num_epochs,
                "epochs_per_unit": self._epochs_per_unit(shape.num_epochs),
            },
            "evaluate": {
                "student": {"arch": _ARCHS[0]},
                "num_students": 1,
                "controls": [],
                "test_every": max(1, shape.num_epochs // 2),
            },
            "orchestrate": {"actors": 1},
        }

    @staticmethod
    def _epochs_per_unit(epochs: int) -> int:
        """As many units for each group as 300 epochs have, if there are so many epochs."""
        return max(1, epochs // 3)

    def weights(self, name: str) -> Path:
        """Return the file of a teacher's weights."""
        return self.folder / "pictures" / f"{name}.safetensors"

    def write_input(self) -> None:
        """Write what the run begins with, if it is not there: JPEGs in class folders, and random weights."""
        done = self.folder / "pictures" / "done"
        if done.exists():
            return
        with get_context("spawn").Pool(num_cores()) as pool:
            write = partial(_write_class, self.folder / "pictures", self.ipc, round(self.size * 8 / 7))
            pool.map(write, range(self.classes), chunksize=10)
            for number, (name, arch) in enumerate(zip(_NAMES, _ARCHS, strict=True)):
                path = self.weights(name)
                pool.apply(_write_weights, (path, arch, self.classes, self.input_size, number))
        done.touch()


def _write_class(folder: Path, num_train: int, size: int, label: int) -> None:
    """Write the pictures of a class, JPEGs of `size` pixels, drawn from its label."""
    import numpy as np
    from pictures import draw_picture
    from PIL import Image

    rng = np.random.default_rng(label)
    for split, count in (("train", num_train), ("test", _NUM_TEST)):
        place = folder / split / f"n{label:08d}"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(draw_picture(rng, size)).save(place / f"{number:05d}.jpeg", quality=90)


def _write_weights(path: Path, arch: str, classes: int, size: int, seed: int) -> None:
    import safetensors.torch
    from setups import make_network

    safetensors.torch.save_file(make_network(arch, classes, size, seed).state_dict(), path)


def do_stage(config_file: Path, stage: str) -> dict[str, Any]:
    """Do a stage with `distill` in this process, which is the driver; return what it took."""
    from prism_ray.config import load_config
    from prism_ray.orchestrate.environment import prepare_for_local_ray
    from prism_ray.pipeline import distill

    os.environ |= {"RAY_worker_niceness": "0"}  # as in scale.py: other work on the machine is not preferred
    prepare_for_local_ray()
    from prism_ray.orchestrate import dispatch

    dispatch.Dispatcher = partial(dispatch.Dispatcher, actor_class=watched_actor_class())  # type: ignore[misc,assignment]
    config = load_config(config_file, [])
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = folder
        began = time.monotonic()
        outcome = distill(config, str(config_file), [stage])
        whole = time.monotonic() - began
        seen = [json.loads(file.read_text()) for file in Path(folder).glob("*.json")]
    assert "torch" not in sys.modules, "the driver of a run never loads torch"
    memory = [bytes_now for each in seen for _, bytes_now in each["memory"]]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_s": whole,
        "start_s": outcome.start_seconds or 0.0,
        "busy_s": sum(each["busy_s"] for each in seen),
        "cpu": _sums([each["cpu"] for each in seen]),
        "wall": _sums([each["wall"] for each in seen]),
        "driver_bytes": peak_resident_bytes(),
        "driver_cpu_s": used.ru_utime + used.ru_stime,
        "actor_bytes": max(memory, default=0),
        "memory": [each["memory"] for each in seen],
    }


def _sums(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the sum of each key over all actors."""
    return {key: sum(each.get(key, 0.0) for each in found) for each in found for key in each}


def do_load(store: str) -> dict[str, Any]:
    """Open the set as a torch dataset, and take the first views of two epochs."""
    import prism_ray

    began = time.perf_counter()
    views = prism_ray.load(store)
    opened = time.perf_counter()
    times = []
    for epoch in range(min(2, views.num_epochs)):
        views.set_epoch(epoch)
        before = time.perf_counter()
        views.__getitems__([0])
        times.append(time.perf_counter() - before)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_s": opened - began,
        "cpu_s": used.ru_utime + used.ru_stime,
        "first_view_s": times[0],
        "next_epoch_s": times[-1],
        "bytes": peak_resident_bytes(),
    }


def do_command(arguments: Sequence[str], codes: Sequence[int] = (0,)) -> dict[str, Any]:
    """Run a command of prism-ray; return what it took."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "prism_ray", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in codes:
        sys.exit(f"prism-ray {shlex.join(arguments)}: {said}")
    return {
        "wall_s": time.monotonic() - began,
        "cpu_s": used.ru_utime + used.ru_stime,
        "bytes": used.ru_maxrss * 1024,
    }


def do_step(rehearsal: Rehearsal, point: str, step: str) -> dict[str, Any]:
    """Do a step of a point; return what it took, with the bytes of the store after a stage."""
    config_file = rehearsal.folder / f"{point}.yaml"
    config_file.write_text(json.dumps(rehearsal.config(point)))  # JSON is YAML
    store, out = str(rehearsal.folder / point), rehearsal.folder / "out"
    load = round(os.getloadavg()[0], 1)
    if step in STAGES:
        found = asked(__file__, "stage", str(config_file), step) | {"files": count_files(Path(store))}
    elif step == "load":
        found = asked(__file__, "load", store)
    elif step == "plan":
        found = do_command(["plan", str(config_file)])
    elif step == "export":
        shutil.rmtree(out, ignore_errors=True)
        found = do_command(["export", store, "--to", str(out)])
        shutil.rmtree(out)
    elif step.startswith("verify"):
        found = do_command(["verify", store], (0, 3))
    else:
        found = do_command([step, store], (0, 3))
    return found | {"load": load}


def count_files(store: Path) -> dict[str, tuple[int, int]]:
    """Return the number of files in each folder of a store, and their bytes."""
    found: dict[str, tuple[int, int]] = {}
    for file in store.rglob("*"):
        if file.is_file():
            name = file.relative_to(store).parts[0] if file.parent != store else file.name
            if file.relative_to(store).parts[0] == "sets":
                name = file.relative_to(store).parts[2]
            count, num_bytes = found.get(name, (0, 0))
            found[name] = count + 1, num_bytes + file.stat().st_size
    return found


@click.group(invoke_without_command=True, help=(__doc__ or "").partition("\n")[0])
@click.option("--classes", default=1000, show_default=True)
@click.option("--ipc", default=10, show_default=True, help="Images per class; the smaller point has a third.")
@click.option("--epochs", default=2, show_default=True, help="Label epochs; the smaller point has half.")
@click.option("--size", default=224, show_default=True, help="Height and width of the images.")
@click.option("--input-size", default=32, show_default=True, help="Height and width of the networks' input.")
@click.option("--iterations", default=1, show_default=True, help="Of recover.")
@click.option(
    "--folder", type=click.Path(path_type=Path), help="A folder to keep; by default a temporary one."
)
@click.option("--steps", type=int, help="Do this many of the missing steps; by default all.")
@click.pass_context
def main(context: click.Context, folder: Path | None, steps: int | None, **shape: int) -> None:
    if context.invoked_subcommand is not None:
        return
    print(f"{this_machine().processor}, {num_cores()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    kept = folder or Path(tempfile.mkdtemp(prefix="prism-rehearsal-"))
    kept.mkdir(parents=True, exist_ok=True)
    rehearsal = Rehearsal(kept.absolute(), **shape)
    figures_file = rehearsal.folder / "figures.json"
    figures: dict[str, dict[str, Any]] = {}
    if figures_file.exists():
        figures = json.loads(figures_file.read_text())
    rehearsal.write_input()
    missing = [
        (point, step)
        for point in rehearsal.points
        for step in STEPS
        if step not in figures.setdefault(point, {})
    ]
    for point, step in missing[:steps]:
        took = figures[point][step] = do_step(rehearsal, point, step)
        print(f"{point:<6} {step:<14} {took['wall_s']:8.1f} s", flush=True)
        figures_file.write_text(json.dumps(figures))
    print_tables(rehearsal.points, figures)
    if folder is None:
        shutil.rmtree(kept)


@main.command(hidden=True)
@click.argument("config_file", type=click.Path(path_type=Path))
@click.argument("name")
def stage(config_file: Path, name: str) -> None:
    print(json.dumps(do_stage(config_file, name)))


@main.command(hidden=True)
@click.argument("store")
def load(store: str) -> None:
    print(json.dumps(do_load(store)))


if __name__ == "__main__":
    main()
