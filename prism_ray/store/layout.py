"""Where everything stands in a store; the one place that knows the names.

RUN/
  config.yaml  plan.json                    resolved config, for people; the run's plan, created exclusively
  data/index.parquet                        the files of an image folder, listed once
  teachers/<name>/weights-<attempt>.safetensors  teacher-<attempt>.json
  collected/<kind>/<teacher>/...            statistics and scores of the real images, by ranges of classes
  images/part-<key>-<attempt>.parquet       the distilled images
  images/merged-<hash>.parquet              several of them in one, after `compact`; labels too
  images/<label>/<IPC index>-<attempt>.png  with `store.image_format: png`: the images; parts name them
  labels/part-<group>-<attempt>.parquet     their soft labels, keyed by (image, epoch)
  sets/<set>/images/  labels/               the same for every image set of another name than `distilled`
  students/<set>/<evaluation>/s...json      test accuracy of each student
  measures/<set>-<attempt>.json             diversity of a set, and what the verifiers say
  commits/<stage>/...json                   one small file per finished unit; nothing counts without it
  ledger/...parquet                         what many commits say, for looking at them fast; safe to delete
  failures/<stage>/...json                  traceback of each failed attempt
  aside/<stage>/...json                     units left out because they kept failing, until `retry`
  lease/<n>.json                            the driver at work, or the last that was
  wip/                                      files not yet whole, the state of units in the making; safe to
                                            delete when no run is alive
"""

from prism_ray.config.layers import DISTILLED
from prism_ray.units import CollectUnit, EvaluateUnit, MeasureUnit, RecoverUnit, RelabelUnit, Slot

PLAN = "plan.json"
CONFIG = "config.yaml"
DATA_INDEX = "data/index.parquet"
COMMITS = "commits"
LEDGER = "ledger"
FAILURES = "failures"
ASIDE = "aside"
LEASES = "lease"

WIP = "wip"
STATE_SUFFIX = ".safetensors"
PART_FOLDERS = ("teachers", "collected", "images", "labels", "sets", "students", "measures")


def is_part(name: str) -> bool:
    """True for a name that a unit's file can have, false for the run's own files."""
    return name.split("/")[0] in PART_FOLDERS


def commit(unit_id: str) -> str:
    """Name of a unit's commit."""
    return f"{COMMITS}/{unit_id}.json"


def ledger(digest: str) -> str:
    """Name of a file of the ledger, by what it holds."""
    return f"{LEDGER}/{digest}.parquet"


def failure(unit_id: str, number: int) -> str:
    """Name of the record of a unit's failed attempt."""
    return f"{FAILURES}/{unit_id}-{number}.json"


def aside(unit_id: str) -> str:
    """Name of the mark of a unit that is left out."""
    return f"{ASIDE}/{unit_id}.json"


def lease(number: int) -> str:
    """Name of the record of the driver that was the `number`-th to work on the store."""
    return f"{LEASES}/{number:06d}.json"


def checkpoint(unit_id: str) -> str:
    """Name of the state of a unit that is not done yet."""
    return f"{WIP}/{unit_id}{STATE_SUFFIX}"


def weights(teacher: str, attempt: int) -> str:
    return f"teachers/{teacher}/weights-{attempt}.safetensors"


def teacher_card(teacher: str, attempt: int) -> str:
    return f"teachers/{teacher}/teacher-{attempt}.json"


def image_part(unit: RecoverUnit, attempt: int) -> str:
    return f"{_set_folder(unit.image_set)}images/part-{unit.key}-{attempt}.parquet"


def image_file(unit: RecoverUnit, slot: Slot, attempt: int) -> str:
    name = f"{slot.label:05d}/{slot.ipc_index:05d}-{attempt}.png"
    return f"{_set_folder(unit.image_set)}images/{name}"


def label_part(unit: RelabelUnit, attempt: int) -> str:
    key = unit.id.rsplit("/", 1)[-1]
    return f"{_set_folder(unit.image_set)}labels/part-{key}-{attempt}.parquet"


def merged_part(digest: str) -> str:
    """Name, in its folder, of a file that was made of several parts, by what it holds."""
    return f"merged-{digest[:32]}.parquet"


def student_card(unit: EvaluateUnit, attempt: int) -> str:
    key = unit.id.rsplit("/", 1)[-1]
    return f"students/{unit.image_set}/{unit.evaluation}/{key}-{attempt}.json"


def measure_card(unit: MeasureUnit, attempt: int) -> str:
    return f"measures/{unit.image_set}-{attempt}.json"


def collected_part(unit: CollectUnit, what: str, attempt: int) -> str:
    key = unit.id.rsplit("/", 1)[-1]
    return f"collected/{unit.kind}/{unit.teacher}/{what}-{key}-{attempt}.safetensors"


def _set_folder(image_set: str) -> str:
    return "" if image_set == DISTILLED else f"sets/{image_set}/"
