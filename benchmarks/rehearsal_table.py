"""The laws of growth of a rehearsal, and its tables: what was measured, and what the full job would take."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from whereabouts import IMAGES, IMPORTS, NETWORK, PNG, REAL, TEACHERS, VIEWS

_EPOCHS, _RANGES = 300, 3  # of jobs/imagenet-1k.yaml
_DECODED = 5 * 50_000  # five tests; the pictures do not fit into memory
_ARITHMETIC = (NETWORK, VIEWS)  # of the device: a GPU does it
_LEAST_S = 0.5  # a smaller amount has no growth that could be seen


@dataclass(frozen=True)
class Point:
    """How much there is to do in a run."""

    num_images: int
    num_epochs: int  # with labels
    num_ranges: int  # of epochs: units of a label group
    num_decoded: int  # test pictures that a student's tests decode

    @property
    def num_views(self) -> int:
        return self.num_images * self.num_epochs


# What the seconds of a stage grow with.
_LAWS: dict[str, tuple[str, Callable[[Point], int]]] = {
    "images": ("images", lambda point: point.num_images),
    "ranges": ("images x ranges of epochs", lambda point: point.num_images * point.num_ranges),
    "views": ("images x epochs", lambda point: point.num_views),
    "tests": ("decoded test pictures", lambda point: point.num_decoded),
    "nothing": ("nothing", lambda point: 1),
}
_OF_STEPS = {  # of the whole time of a step
    "verify images": "images",
    "show": "images",
    "report": "images",
    "export": "images",
    "load": "images",
}


def law_of(stage: str, kind: str) -> str:
    """Return the law of the seconds of a kind of work in a stage."""
    if kind in (IMPORTS, TEACHERS) or stage == "squeeze":
        return "nothing"  # the same pictures train the teachers of both points
    if stage == "relabel":
        return "ranges" if kind in (PNG, IMAGES) else "views"
    if stage == "evaluate":
        return "tests" if kind == REAL else "images" if kind in (PNG, IMAGES) else "views"
    return "images"


def print_tables(points: Mapping[str, Point], figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what the steps that are done at both points took, how it grew, and what the full job takes."""
    whole = points["whole"]
    jobs = [
        replace(
            whole,
            num_images=whole.num_images * factor,
            num_epochs=_EPOCHS,
            num_ranges=_RANGES,
            num_decoded=_DECODED,
        )
        for factor in (1, 5)
    ]
    print("\nthe processor's seconds: measured, whole over what the law says from small, and of the full job")
    print("with as many images and with five times as many")
    print(f"{'small':>8} {'whole':>8} {'growth':>7} {'300 ep.':>9} {'x5 imgs':>9}   what: its law")
    for stage, small, full in _both(figures):
        if "cpu" not in full:
            continue
        waits = full["wall_s"] - full["start_s"] - full["busy_s"]
        print(
            f"-- {stage}: {full['wall_s']:.1f} s on the clock: start {full['start_s']:.1f}, actor busy "
            f"{full['busy_s']:.1f}, idle {waits:.1f}; driver {full['driver_cpu_s']:.1f} s of the processor"
        )
        sums = [0.0] * 4
        for place, taken in sorted(full["cpu"].items(), key=lambda item: -item[1]):
            kind = place.partition("/")[2]
            before = small["cpu"].get(place, 0.0)
            name = law_of(stage, kind)
            values = [before, taken, *_projected(points, jobs, name, taken)]
            if kind not in _ARITHMETIC:
                sums = [total + value for total, value in zip(sums, values, strict=True)]
            _print_line(values, _growth(points, name, before, taken), f"{kind}: {_LAWS[name][0]}")
        _print_line(sums, "", "all but networks and views")
    print("-- commands")
    for step, small, full in _both(figures):
        if "cpu" in full:
            continue
        name = _OF_STEPS.get(step)
        before, taken = small["cpu_s"], full["cpu_s"]
        values = [before, taken]
        growth = ""
        if name:
            values += _projected(points, jobs, name, taken)
            growth = _growth(points, name, before, taken)
        _print_line(values, growth, f"{step}{': ' + _LAWS[name][0] if name else ''}")
    _print_memory(points, figures)
    _print_bytes(points, figures, jobs)


def _both(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Return the steps that are done at both points, with what they took at each."""
    small, whole = figures["small"], figures["whole"]
    return [(step, small[step], whole[step]) for step in small if step in whole]


def _projected(points: Mapping[str, Point], jobs: list[Point], name: str, taken: float) -> list[float]:
    amount = _LAWS[name][1]
    return [taken * amount(job) / amount(points["whole"]) for job in jobs]


def _growth(points: Mapping[str, Point], name: str, small: float, whole: float) -> str:
    """Return what the whole took over what the law says from the small point: 1 is as the law."""
    amount = _LAWS[name][1]
    expected = small * amount(points["whole"]) / amount(points["small"])
    return f"{whole / expected:.2f}" if min(small, whole) >= _LEAST_S else ""


def _print_line(values: list[float], growth: str, what: str) -> None:
    cells = [f"{value:.1f}" for value in values] + [""] * (4 - len(values))
    print(f"{cells[0]:>8} {cells[1]:>8} {growth:>7} {cells[2]:>9} {cells[3]:>9}   {what}")


def _print_memory(points: Mapping[str, Point], figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Print peaks in MB, and what an image more takes."""
    more = points["whole"].num_images - points["small"].num_images
    print(f"\n{'small':>8} {'whole':>8} {'KB/image':>9}   peak of resident memory in MB")
    for step, small, full in _both(figures):
        for key in ("driver_bytes", "actor_bytes", "bytes"):
            if key in full:
                a, b = small[key], full[key]
                slope = (b - a) / max(1, more) / 1e3
                who = {"driver_bytes": ", driver", "actor_bytes": ", actor"}.get(key, "")
                print(f"{a / 1e6:8.0f} {b / 1e6:8.0f} {slope:9.1f}   {step}{who}")


def _last_files(steps: Mapping[str, Any]) -> Mapping[str, tuple[int, int]]:
    """Return the number and the bytes of files by folder, as they were after the last stage."""
    found: Mapping[str, tuple[int, int]] = {}
    for step in steps.values():
        found = step.get("files", found)
    return found


def _print_bytes(
    points: Mapping[str, Point], figures: Mapping[str, Mapping[str, Any]], jobs: list[Point]
) -> None:
    """Print the files of the stores after the last stage."""
    print("\nfiles and MB of each folder of the store")
    for name, point in points.items():
        files = _last_files(figures[name])
        for folder, (count, num_bytes) in sorted(files.items()):
            law = {"images": point.num_images, "labels": point.num_views}.get(folder)
            per = f", {num_bytes / law:,.0f} bytes of each" if law else ""
            print(f"{name:<6} {folder:<16} {count:>6} {num_bytes / 1e6:>10.2f}{per}")
    print("labels of the full job, GB:", end=" ")
    files = _last_files(figures["whole"])
    if "labels" in files:
        per_view = files["labels"][1] / points["whole"].num_views
        print(", ".join(f"{per_view * job.num_views / 1e9:.1f}" for job in jobs))
