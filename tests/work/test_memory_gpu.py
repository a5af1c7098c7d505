"""The memory of a real device runs out: all but some of it is filled, and a batch has to do with that."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.errors import DeviceMemoryError, EngineError
from prism_ray.recover.objective import Objective
from prism_ray.recover.space import ReferenceSpace
from prism_ray.run import Run, new_run
from prism_ray.store import Commit, StoreFiles, revoke
from prism_ray.teachers.teacher import freeze
from prism_ray.work.worker import Worker
from tests.recover.networks import LIBRARY, teacher_of
from tests.recover.test_recompute import set_up, start

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

DIGITS = Path(__file__).parents[2] / "jobs" / "digits-ipc10.yaml"
SETTINGS = (
    "data.image_size=224",
    "teachers.pool=[{name: resnet, arch: 'torchvision:resnet18'}, "
    "{name: mobilenet, arch: 'torchvision:mobilenet_v2'}, {name: densenet, arch: 'torchvision:densenet121'}]",
    "teachers.squeeze.epochs=1",
    "recover.primary=resnet",
    "recover.ipc=10",
    "recover.ipc_indices_per_batch=10",
    "recover.iterations=8",
    "recover.iterations_step=0",
    "recover.selection={inclusion_probability: 1.0}",
)


@pytest.fixture(autouse=True)
def as_in_an_actor() -> Iterator[None]:
    """Settings that make results on CUDA the same in every run."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    yield
    torch.use_deterministic_algorithms(False)


class Bench:
    """A store with squeezed teachers, and a device of which only a part is free."""

    def __init__(self, store: Path) -> None:
        self.device = torch.device("cuda")
        self._store = store
        run, files = self._open()
        worker = Worker(run, files, self.device)
        for unit in run.plan.units("squeeze"):
            worker.do(unit)

    def _open(self, *overrides: str) -> tuple[Run, StoreFiles]:
        config = load_config(DIGITS, [*SETTINGS, *overrides], store=str(self._store))
        return new_run(config, open_data(config.data).facts(), num_threads=1), StoreFiles(config.store)

    def recover(self, room: int | None, *overrides: str) -> Commit:
        """Make the first batch with `room` bytes of the device free; None: all."""
        run, files = self._open(*overrides)
        unit = next(run.plan.units("recover", "distilled"))
        revoke(files, unit.id)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        free, _ = torch.cuda.mem_get_info()
        filled = torch.empty(0 if room is None else free - room, dtype=torch.uint8, device=self.device)
        try:
            return Worker(run, files, self.device).do(unit)
        finally:
            del filled


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("run"))


def test_a_batch_that_has_no_room_is_done_with_activation_checkpointing(bench: Bench) -> None:
    """Catches memory that the first attempt keeps on CUDA, where autograd works in threads of its own, and
    pixels that depend on how they were made."""
    plain = bench.recover(None)
    assert plain.stats["activation_checkpointing"] is False
    room = round(0.6 * torch.cuda.max_memory_reserved())
    again = bench.recover(room)
    assert again.stats["activation_checkpointing"] is True
    assert [part.sha256 for part in again.files] == [part.sha256 for part in plain.files]
    assert torch.cuda.memory_allocated() < 0.1 * room


def test_the_batch_size_that_is_named_fits(bench: Bench) -> None:
    """Catches a number that holds on paper only: workspaces, fragments and the moments of Adam count too."""
    bench.recover(None)
    room = round(0.15 * torch.cuda.max_memory_reserved())
    with pytest.raises((DeviceMemoryError, EngineError), match="not even with activation") as caught:
        bench.recover(room)
    assert "CUDA error" not in str(caught.value)
    found = re.search(r"images_per_batch \(now 100\) to (\d+) or less", str(caught.value))
    assert found is not None
    fits = int(found[1])
    assert 10 <= fits < 100
    commit = bench.recover(room, f"recover.images_per_batch={fits}")
    assert commit.files[0].num_rows == fits // 10 * 10  # whole classes of ten images


def test_nothing_waits_for_the_device() -> None:
    """Catches a forward pass in segments that makes the host wait for CUDA in every step."""
    device = torch.device("cuda")
    teachers = {
        name: replace(teacher, network=freeze(teacher.network, device))
        for name, teacher in ((name, teacher_of(name, LIBRARY[name])) for name in ("resnet18", "densenet121"))
    }
    on_cpu = set_up("averaged", *teachers.values())
    setting = replace(
        on_cpu,
        teachers=teachers,
        labels=on_cpu.labels.to(device),
        space=ReferenceSpace.of(teachers["resnet18"].preprocessing, 3, device),
        device=device,
        config=on_cpu.config.model_copy(update={"densification_weight": 0.0}),  # eigenvalues do wait
        recompute=True,
    )
    x = start().to(device).requires_grad_(True)
    with Objective(setting) as objective:
        objective(x, setting.unit.draws[0]).total.backward()  # what is made once
        torch.cuda.set_sync_debug_mode("error")
        try:
            objective(x, setting.unit.draws[0]).total.backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert x.grad is not None
