"""What an actor is doing, by looking: a thread samples where its units are, and how much memory it has.

Nothing of the package is changed for it. A sample goes to the innermost line of the stack that the table
below knows, so a network's pass counts as network whoever asked for it. No torch.
"""

import json
import os
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

INTERVAL_S = 0.01
WRITE_EVERY_S = 0.5
FOLDER = "REHEARSAL_FOLDER"  # environment variable: where an actor writes what it has seen

NETWORK, PNG, IMAGES, LABELS, STORE, REAL = (
    "networks",
    "PNG",
    "image files",
    "label files",
    "store",
    "pictures",
)
VIEWS, TEACHERS, IMPORTS, REST = "views", "teachers", "imports", "rest"

# The end of a file's path (or a folder in it), and what its functions do.
_PLACES = (
    ("/torch/nn/modules/module.py", NETWORK),
    ("/torch/_tensor.py", NETWORK),  # backward
    ("/torch/autograd/", NETWORK),
    ("/torch/optim/", NETWORK),
    ("/prism_ray/parts/png.py", PNG),
    ("/prism_ray/parts/images.py", IMAGES),
    ("/prism_ray/parts/labels.py", LABELS),
    ("/prism_ray/encodings/", LABELS),
    ("/prism_ray/parts/views.py", VIEWS),
    ("/prism_ray/store/", STORE),
    ("/prism_ray/data/", REAL),
    ("/prism_ray/relabel/views.py", VIEWS),
    ("/prism_ray/relabel/augment.py", VIEWS),
    ("/prism_ray/teachers/teacher.py", VIEWS),  # the input of a network at its size, normalised
    ("/prism_ray/teachers/cards.py", TEACHERS),
    ("/prism_ray/teachers/build.py", TEACHERS),
    ("/prism_ray/recover/", NETWORK),  # the arithmetic of an optimisation: crops, losses, steps
    ("/prism_ray/evaluate/protocol.py", NETWORK),
    ("importlib._bootstrap>", IMPORTS),
    ("/prism_ray/work/worker.py", REST),
)
_UNIT = {"begin": False, "_commit": True}  # functions of a worker, and whether they run beside the device


def _kind(path: str) -> str | None:
    return next((kind for part, kind in _PLACES if part in path), None)


class Whereabouts:
    """The seconds of an actor's units, by stage and by what was done, and its resident memory."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"{os.getpid()}.json"
        self._kinds: dict[str, str | None] = {}  # by the path of a file
        # By "stage/kind": the processor's seconds of all threads, which other work hardly changes.
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self.wall: defaultdict[str, float] = defaultdict(float)  # units beside each other count both
        self.busy_s = 0.0  # in which there was a unit
        self.memory: list[tuple[float, int]] = []  # seconds, bytes

    def start(self) -> None:
        threading.Thread(target=self._run, name="whereabouts", daemon=True).start()

    def _run(self) -> None:
        began = before = written = time.perf_counter()
        cpu_before, was_busy = time.process_time(), False
        while True:
            time.sleep(INTERVAL_S)
            now, cpu_now = time.perf_counter(), time.process_time()
            found = [place for frame in sys._current_frames().values() if (place := self._place(frame))]
            for place in found:
                self.wall[place] += now - before
                self.cpu[place] += (cpu_now - cpu_before) / len(found)
            self.busy_s += (now - before) * bool(found)
            if now - written > WRITE_EVERY_S or (was_busy and not found):
                self.memory.append((now - began, psutil.Process().memory_info().rss))
                self._write()
                written = now
            before, cpu_before, was_busy = now, cpu_now, bool(found)

    def _place(self, frame: FrameType | None) -> str | None:
        """Return the stage and the kind of work of a thread's stack, None if it has no unit."""
        kind = None
        while frame is not None:
            path, function = frame.f_code.co_filename, frame.f_code.co_name
            if path not in self._kinds:
                self._kinds[path] = _kind(path)
            kind = kind or self._kinds[path]
            if function in _UNIT and path.endswith("/prism_ray/work/worker.py"):
                unit: Any = frame.f_locals.get("unit")
                return f"{unit.id.partition('/')[0]}/{kind}" if unit is not None else None
            frame = frame.f_back
        return None

    def _write(self) -> None:
        text = json.dumps({"cpu": self.cpu, "wall": self.wall, "busy_s": self.busy_s, "memory": self.memory})
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(self._file)


def watched_actor_class() -> Any:
    """Return the actor of a run with a thread that looks where its units are."""
    import ray

    from prism_ray.orchestrate.actor import WorkerActor

    plain: Any = WorkerActor.__ray_metadata__.modified_class.__ray_actor_class__

    class WatchedActor(plain):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            from whereabouts import FOLDER, Whereabouts

            super().__init__(*arguments)
            Whereabouts(Path(os.environ[FOLDER])).start()

    options = {"max_restarts": 0, "max_task_retries": 0}
    return ray.remote(concurrency_groups={"units": 2, "control": 1}, **options)(WatchedActor)
