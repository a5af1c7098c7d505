"""What is finished of an image set, for all that reads it: load, export, the library, sheets, the report."""

from collections.abc import Collection, Iterator, Set

from prism_ray.errors import StoreError, UsageError
from prism_ray.plan import Plan
from prism_ray.run.plan_file import NOT_IN_CONFIG, Run
from prism_ray.shell import command
from prism_ray.stages import Within, recover
from prism_ray.stages.base import key_of
from prism_ray.stages.formation import Slot
from prism_ray.store import layout
from prism_ray.store.commits import Commit, list_commits, read_commit
from prism_ray.store.files import StoreFiles
from prism_ray.store.remedy import resume_command

_NAMES = {
    "recover": ("the image set {}", "is", "batches"),
    "relabel": ("the soft labels of {}", "are", "units"),
}


def commits_of_set(files: StoreFiles, run: Run, image_set: str, stage: str = "recover") -> list[Commit]:
    """Return the commits of an image set's batches, or (stage relabel) of its labels, in the plan's order.

    Raises UsageError if there is no such set, if some units are not done yet, or if the run stores no labels,
    and StoreError if a commit is damaged.
    """
    its_run = run.of_image_set(image_set, files.location)
    what, verb, noun = _NAMES[stage]
    what = f"{files.location}: {what.format(repr(image_set))}"
    if stage == "relabel" and its_run.config.relabel.mode == "online":
        distill = command("distill", "CONFIG", "--set", "relabel.mode=stored", "--store", "ANOTHER")
        raise UsageError(
            f"{what} are not stored, because relabel.mode is online: there each student asks the teachers; "
            f"make a run that stores them, which are the same to the bit, with `{distill}`"
        )
    unit_ids = list(its_run.plan.unit_ids(stage, image_set))
    commits = []
    for unit_id in unit_ids:
        try:
            commits.append(read_commit(files, unit_id))
        except StoreError:
            if files.exists(layout.commit(unit_id)):
                raise
            committed = list_commits(files)
            num_done = sum(each in committed for each in unit_ids)
            remedy = f"finish {'it' if verb == 'is' else 'them'} with `{resume_command(files)}`"
            if its_run is not run:
                resume = command("distill", "CONFIG", "--store", files.location)
                remedy = f"it is {NOT_IN_CONFIG}; finish it with `{resume}` and a config that names it"
            raise UsageError(
                f"{what} {verb} not finished, {num_done} of {len(unit_ids)} {noun} are done; {remedy}"
            ) from None
    return commits


def batches_with(plan: Plan, done: Collection[str], image_set: str, slots: Set[Slot]) -> Iterator[str]:
    """Yield the ids of the batches of an image set that are `done` and have some of the slots, in order.

    No teachers are drawn for it.
    """
    formation = plan.formation(image_set)
    for unit_id in recover.STAGE.ids(plan, Within(image_set)):
        number = formation.number(key_of(unit_id)) if unit_id in done else None
        if number is not None and not slots.isdisjoint(formation.slots(number)):
            yield unit_id
