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

from prism_ray.stages import stages

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


def part_folders() -> tuple[str, ...]:
    """Return the folders that hold the files of units; stages/ says which."""
    return tuple(dict.fromkeys(folder for stage in stages() for folder in stage.folders))


def is_part(name: str) -> bool:
    """Return whether a unit's file can have this name; the run's own files cannot."""
    return name.split("/")[0] in part_folders()


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


def merged_part(digest: str) -> str:
    """Name, in its folder, of a file that was made of several parts, by what it holds."""
    return f"merged-{digest[:32]}.parquet"
