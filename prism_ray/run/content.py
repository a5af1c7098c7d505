"""Checks of the contents of a unit's files, beyond their bytes: its slots, whole images, finite labels."""

from collections import Counter
from pkgutil import resolve_name

from prism_ray.parts.images import ImageForm, read_batch
from prism_ray.parts.labels import LabelForm, decode_epoch
from prism_ray.parts.rows import open_rows
from prism_ray.run.plan_file import Run
from prism_ray.stages import Unit, find_stage, stage_of
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.stages.relabel import RelabelUnit
from prism_ray.store.commits import Commit
from prism_ray.store.files import StoreFiles
from prism_ray.store.remedy import damaged


def find_fault(files: StoreFiles, run: Run, unit: Unit, commit: Commit) -> str | None:
    """Return what is wrong with the contents of a unit's files, None if nothing; see `Stage.content`.

    The caller has compared the files with the hashes in the commit (`find_damage`).
    Raises StoreError if a file cannot be read, or does not have the form of the run's files.
    """
    reference = find_stage(stage_of(unit.id)).content
    if reference is None:
        return None
    fault: str | None = resolve_name(reference)(files, run, unit, commit)
    return fault


def fault_of_images(files: StoreFiles, run: Run, unit: RecoverUnit, commit: Commit) -> str | None:
    """Return what is wrong with the images of a batch, None if nothing; see `find_fault`."""
    _, stored = read_batch(files, commit, ImageForm.of(run.plan, unit.image_set))
    if stored.slots == unit.slots:
        return None
    what = _difference(Counter(stored.slots), Counter(unit.slots))
    return f"{commit.files[0].name} does not contain the images of the plan: {what}"


def fault_of_labels(files: StoreFiles, run: Run, unit: RelabelUnit, commit: Commit) -> str | None:
    """Return what is wrong with the labels of a unit, None if nothing; see `find_fault`."""
    if len(commit.files) != 1:
        return f"its commit names {len(commit.files)} files, not 1"
    (part,) = commit.files
    expected = Counter(run.plan.formation(unit.image_set).group_slots(unit.group))
    num_rows = expected.total() * unit.num_epochs
    form = LabelForm.of(run.plan, unit.image_set)
    if part.num_rows != num_rows:
        return f"its commit says that {part.name} has {part.num_rows} rows, and it must have {num_rows}"
    try:
        reader, row_groups = open_rows(files, part, form.schema, is_hashed=True)
        table = reader.read(row_groups, form.max_bytes(num_rows))
        for epoch in range(unit.first_epoch, unit.first_epoch + unit.num_epochs):
            labels = decode_epoch(epoch, table, form, unit.id)
            found = Counter(map(Slot, labels.views.label.tolist(), labels.views.ipc_index.tolist()))
            if found != expected:
                what = _difference(found, expected)
                return f"{part.name}, epoch {epoch}, does not contain the images of the group: {what}"
            form.validate(labels)
    except ValueError as error:
        raise damaged(files, part.name, error) from error
    return None


def _difference(found: Counter[Slot], expected: Counter[Slot]) -> str:
    differences = []
    for word, slots in (("missing", expected - found), ("too many", found - expected)):
        if slots:
            slot = min(slots)
            differences.append(
                f"{slots.total()} {word}, the first is image {slot.ipc_index} of class {slot.label}"
            )
    return "; ".join(differences) or "their order is another"
