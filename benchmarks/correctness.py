"""Checks that the engine does on a device what it does on the CPU, and the same each time.

Each check returns what it found, for the JSON of gpu.py, and raises AssertionError if that is wrong.
"""

import hashlib
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from measure import NotHere, deterministic
from plain_loop import differences, float64, plain_float32
from setups import Job, first_pixels, make_networks, make_setting
from torch import Tensor

import prism_ray.work.recover
from prism_ray.config import Config, load_config
from prism_ray.data import open_data
from prism_ray.device import let_go
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.engine import recover_batch
from prism_ray.recover.objective import Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.run import new_run, save_run
from prism_ray.stages import stage_names
from prism_ray.store import Commit, StoreFiles, revoke
from prism_ray.work.worker import Worker

REPOSITORY = Path(__file__).resolve().parents[1]
DIGITS = REPOSITORY / "jobs" / "digits.yaml"
FAMILIES = Path(__file__).with_name("families.txt").read_text().splitlines()

_FAMILY_SIZE = 96
_ITERATIONS = 3
# A digits job of seconds: a few units of each stage.
_SHORT = (
    "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}]",
    "teachers.squeeze.epochs=1",
    "recover.iterations=2",
    "image_sets.prism={iterations_step: 0}",
    "relabel.epochs=4",
    "relabel.epochs_per_unit=2",
)
_FEW_STUDENTS = ("evaluate.num_students=2", "evaluations.hard-labels.num_students=1")


@dataclass(frozen=True)
class Place:
    """Where the checks run, and with what networks."""

    device: torch.device
    archs: tuple[str, ...]
    batch: int
    size: int
    tiny: bool
    seconds_for_families: float

    def job(self, **values: Any) -> Job:
        return Job(self.archs, self.batch, self.size, self.device, **values)

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"


def _step(setting: RecoverSetting, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return loss and pixel gradient of the first iteration, on the CPU."""
    augment = Augmentation(setting.config, 1, setting.image_size, 0, setting.device)
    x = x.clone().requires_grad_(True)
    with Objective(setting) as objective:
        loss = objective(augment(x, 0), setting.unit.draws[0]).total
        loss.backward()
    assert x.grad is not None
    return loss.detach().cpu(), x.grad.cpu()


def against_plain_loop(place: Place) -> dict[str, Any]:
    """The loss, gradient and pixels of the plain loop in float64."""
    with plain_float32():
        found = differences(replace(place.job(), batch=min(place.batch, 4), size=min(place.size, 64)))
    assert max(found["loss"], found["gradient"]) < 1e-10, found
    return dict(found)


def against_cpu(place: Place) -> dict[str, Any]:
    """The loss and gradient of the CPU, in float64 and float32."""
    found: dict[str, Any] = {}
    job = replace(place.job(), batch=min(place.batch, 8), size=min(place.size, 64))
    for name, limit in (("float64", 1e-10), ("float32", 5e-3)):
        with plain_float32(), deterministic(True), _dtype(name):
            answers = []
            for device in (torch.device("cpu"), place.device):
                here = replace(job, device=device)
                setting = make_setting(here, make_networks(here), 1)
                answers.append(_step(setting, first_pixels(here)))
        (loss, gradient), (other_loss, other_gradient) = answers
        found[name] = {
            "loss": float((loss - other_loss).abs() / loss.abs()),
            "gradient": float((gradient - other_gradient).norm() / gradient.norm()),
        }
        assert max(found[name].values()) < limit, found
    return found


@contextmanager
def _dtype(name: str) -> Iterator[None]:
    if name == "float64":
        with float64():
            yield
    else:
        yield


def _digest(setting: RecoverSetting, x: Tensor) -> str:
    with deterministic(True):
        torch.manual_seed(setting.unit.seed)
        images = recover_batch(setting, x.clone()).images
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


def same_bytes(place: Place) -> dict[str, Any]:
    """The images of a batch are the same twice, with each family of networks as the primary."""
    wanted = [line.split() for line in FAMILIES]
    if place.tiny:
        wanted = [words for words in wanted if words[0] in place.archs]
    started, broken, same, not_reached = time.monotonic(), {}, [], []
    for arch, *size in wanted:
        if time.monotonic() - started > place.seconds_for_families:
            not_reached.append(arch)
            continue
        pixels = int(size[0]) if size else (place.size if place.tiny else _FAMILY_SIZE)
        job = Job((arch,), 4, pixels, place.device, classes=10)
        try:
            networks = make_networks(job)
            digests = {_digest(make_setting(job, networks, _ITERATIONS), first_pixels(job)) for _ in range(2)}
            if len(digests) == 1:
                same.append(arch)
            else:
                broken[arch] = "other bytes"
        except Exception as error:
            broken[arch] = _line(error)
            let_go(error)
    found = {"same": len(same), "broken": broken, "not_reached": not_reached}
    assert not broken, found
    return found


def same_bytes_recomputed(place: Place) -> dict[str, Any]:
    """Activation checkpointing gives the same images."""
    job = place.job()
    networks = make_networks(job)
    digests = {
        recompute: _digest(
            make_setting(replace(job, recompute=recompute), networks, _ITERATIONS), first_pixels(job)
        )
        for recompute in (False, True)
    }
    assert digests[False] == digests[True], digests
    return {"sha256": digests[True]}


def no_waiting(place: Place) -> dict[str, Any]:
    """Iterations in which the host does not wait for the device: waits of 20 iterations less those of 10."""
    if not place.is_cuda:
        raise NotHere("only CUDA tells when the host waits for it")
    job = place.job()
    networks = make_networks(job)
    waits = []
    for iterations in (10, 10, 20):  # the first one for what is made once
        setting = make_setting(job, networks, iterations)
        x = first_pixels(job)
        with deterministic(True), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                recover_batch(setting, x)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchroniz" in str(warning.message) for warning in caught))
    found = {"of_10_iterations": waits[1], "of_20_iterations": waits[2]}
    assert waits[1] == waits[2], found
    return found


def out_of_memory(place: Place) -> dict[str, Any]:
    """A batch for which the memory is too small is made with activation checkpointing, to the same bytes.

    On CUDA the memory is filled. On the CPU the first attempt is told that there is none.
    """
    with tempfile.TemporaryDirectory() as folder, deterministic(True):
        if place.is_cuda:
            values = (
                f"data.image_size={place.size}",
                "teachers.pool=[{name: resnet, arch: 'torchvision:resnet18'}, "
                "{name: mobilenet, arch: 'torchvision:mobilenet_v2'}]",
                "recover.ipc=10",
                "image_sets.prism={iterations_step: 0, ipc_indices_per_batch: 10, "
                "selection: {inclusion_probability: 1.0}}",
            )
        else:
            values = ()
        config = load_config(DIGITS, [*_SHORT, *values], store=folder)
        worker, files, plan = _worker(config, place.device)
        for unit in plan.units("squeeze"):
            worker.do(unit)
        unit = next(plan.units("recover", "prism"))

        def make(room: int | None) -> Commit:
            revoke(files, unit.id)
            with _room(room, place.device):
                return Worker(_run_of(config), files, place.device).do(unit)

        if place.is_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        plain = make(None)
        room = round(0.6 * torch.cuda.max_memory_reserved()) if place.is_cuda else 0
        again = make(room)
        found = {
            "checkpointing": [commit.stats["activation_checkpointing"] for commit in (plain, again)],
            "same": [part.sha256 for part in plain.files] == [part.sha256 for part in again.files],
        }
        assert found == {"checkpointing": [False, True], "same": True}, found
        return found


@contextmanager
def _room(room: int | None, device: torch.device) -> Iterator[None]:
    """Leave so many bytes of the device free; None: all. On the CPU only recomputed batches have room."""
    if room is None:
        yield
    elif device.type == "cuda":
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        filled = torch.empty(free - room, dtype=torch.uint8, device=device)
        try:
            yield
        finally:
            del filled
            torch.cuda.empty_cache()
    else:

        def narrow(setting: RecoverSetting, *arguments: Any) -> Any:
            if not setting.recompute:
                raise torch.OutOfMemoryError("simulated")
            return recover_batch(setting, *arguments)

        with patch.object(prism_ray.work.recover, "recover_batch", narrow):
            yield


def digits_job(place: Place) -> dict[str, Any]:
    """All stages of jobs/digits.yaml in this process, without Ray; the students have learned something."""
    with tempfile.TemporaryDirectory() as folder, deterministic(True):
        short = (*_SHORT, *_FEW_STUDENTS) if place.tiny else _FEW_STUDENTS
        config = load_config(DIGITS, list(short), store=folder)
        worker, _files, plan = _worker(config, place.device)
        seconds: dict[str, float] = {}
        accuracies: dict[str, list[float]] = {}
        for stage in stage_names():
            started = time.monotonic()
            for unit in plan.units(stage):
                commit = worker.do(unit)
                if stage == "evaluate":
                    accuracies.setdefault(unit.id.rpartition("/")[0], []).append(commit.stats["accuracy"])
            seconds[stage] = round(time.monotonic() - started, 2)
    means = {name: round(float(np.mean(values)), 4) for name, values in accuracies.items()}
    assert means, "no student was trained"
    if not place.tiny:
        assert min(means.values()) > 0.15, means  # chance is 0.1
    return {"seconds": seconds, "accuracy": means}


def _run_of(config: Config) -> Any:
    return new_run(config, open_data(config.data).facts(), num_threads=torch.get_num_threads())


def _worker(config: Config, device: torch.device) -> tuple[Worker, StoreFiles, Any]:
    files = StoreFiles(config.store_url)
    run = save_run(files, _run_of(config))
    return Worker(run, files, device), files, run.plan


def _line(error: BaseException) -> str:
    """Return an error with the place where it came from, in one line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]} ({last.filename}:{last.lineno})"


describe_error: Callable[[BaseException], str] = _line

CHECKS: dict[str, Callable[[Place], dict[str, Any]]] = {
    "float64 against the plain loop": against_plain_loop,
    "loss and gradient against the CPU": against_cpu,
    "activation checkpointing to the same bytes": same_bytes_recomputed,
    "no synchronisation in the loop": no_waiting,
    "out of memory": out_of_memory,
    "a digits job in one process": digits_job,
    "the same bytes twice": same_bytes,
}
