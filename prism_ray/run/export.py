"""Export of a run's images as PNG files in class folders, for torchvision's ImageFolder. See dataset.py too.

No file of the target is ever overwritten.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from prism_ray.errors import UsageError
from prism_ray.parts.images import ImageForm, read_batch
from prism_ray.run.folders import describe_folders, folder_names
from prism_ray.run.plan_file import Run
from prism_ray.stages.formation import Slot
from prism_ray.store import layout
from prism_ray.store.commits import Commit
from prism_ray.store.files import StoreFiles

CLASSES = "classes.json"
_FILES_AT_ONCE = 8  # that are written at a time: each waits for the disk or the network


def export_folder(
    files: StoreFiles, run: Run, image_set: str, commits: Sequence[Commit], target: StoreFiles
) -> int:
    """Write `train/<class>/<IPC index>.png` and classes.json; return the number of images.

    ImageFolder numbers the folders in the order of their names; classes.json has the label of each.
    """
    names = folder_names(run.facts.class_names)
    create(target, CLASSES, describe_folders(run.facts.class_names, names))
    num_images = 0
    form = ImageForm.of(run.plan, image_set)

    def write(slot: Slot, image: dict[str, bytes]) -> None:
        create(target, f"train/{names[slot.label]}/{slot.ipc_index:05d}.png", image["bytes"])

    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        for commit in commits:
            table, stored = read_batch(files, commit, form)
            num_images += len(list(pool.map(write, stored.slots, table["image"].to_pylist())))
    target.remove_empty(layout.WIP)
    return num_images


def how_to_read_folder(target: StoreFiles, class_names: Sequence[str] = ()) -> str:
    """Return the Python code that reads what `export_folder` wrote, with the run's labels."""
    names = folder_names(class_names)
    folder, classes = f"{target.location}/train", f"{target.location}/{CLASSES}"
    fetched = []
    if not target.is_local:
        system = f"fsspec.filesystem({target.location.partition(':')[0]!r})"
        fetched.append(f"{system}.get({folder!r}, 'train', recursive=True)")
        if sorted(names) != list(names):
            fetched.append(f"{system}.get({classes!r}, {CLASSES!r})")
        folder, classes = "train", CLASSES
    order = ""
    if sorted(names) != list(names):
        rows = f"json.loads(pathlib.Path({classes!r}).read_text('utf-8'))"
        by_folder = f"sorted({rows}, key=lambda c: c['folder'])"
        order = f", target_transform=[c['label'] for c in {by_folder}].__getitem__"
    return "; ".join([*fetched, f"torchvision.datasets.ImageFolder({folder!r}{order})"])


def create(target: StoreFiles, name: str, data: bytes) -> None:
    """Write a new file of an export; raises UsageError if there is one with this name."""
    if not target.create(name, data):
        raise UsageError(f"{target.location}/{name} exists already; give --to a new folder")


def check_new(target: StoreFiles) -> None:
    """Raise UsageError if the target has an export already: two must not be mixed up."""
    found = [name for name in (CLASSES, "README.md") if target.exists(name)]
    for folder in ("train", "data", "labels"):
        found += [name for name, _ in islice(target.list(folder), 1)]
    if found:
        raise UsageError(f"{target.location}/{found[0]} exists already; give --to a new folder")
