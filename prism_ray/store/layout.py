"""The names of all files in a store. No other module spells them out.

RUN/
  config.yaml  plan.json                    resolved config, for people; the run's plan, created exclusively
  data/index.parquet                        the listing of an image folder
  teachers/<name>/weights-<attempt>.safetensors  teacher-<attempt>.json
  collected/<kind>/<teacher>/...            statistics and scores of the real images, by ranges of classes
  images/part-<key>-<attempt>.parquet       the distilled images
  images/merged-<hash>.parquet              several parts in one file, after `compact`; labels too
  images/<label>/<IPC index>-<attempt>.png  with `store.image_format: png`: the images; parts name them
  labels/part-<group>-<attempt>.parquet     their soft labels, with the key (image, epoch)
  sets/<set>/images/  labels/               the same for each image set with another name than `distilled`
  students/<set>/<evaluation>/s...json      accuracies and curve of each student
  measures/<set>-<attempt>.json             diversity of a set, and the accuracy of the verifiers on it
  commits/<stage>/...json                   one small file per finished unit; no part counts without it
  ledger/...parquet                         a summary of many commits, which is read fast; safe to delete
  failures/<stage>/...json                  traceback of each failed attempt
  aside/<stage>/...json                     units that failed too often and are left out until `retry`
  lease/<n>.json                            the active driver, or the last one
  trackers/<name>.json                      what a tracker has of the run
  trackers/<name>/...                       its own files, if it keeps any here
  calibration.json                          what steps of each stage took on a machine (`plan --calibrate`)
  live.json                                 what the active driver is doing; deleted when it ends
  calls/<n>.json                            what a driver counted: teachers from caches, lost machines
  report/sheet.png                          the contact sheet of `show`
  report/report.html                        the page of `report`
  elsewhere/<point>/<part>                  no file here, but a part of another point of a sweep
  wip/                                      incomplete files, and checkpoints of units in progress; safe to
                                            delete when no run is active
"""

from prism_ray.stages import stages

PLAN = "plan.json"
CONFIG = "config.yaml"
DATA_INDEX = "data/index.parquet"
COMMITS = "commits"
LEDGER = "ledger"
SHEET = "report/sheet.png"
REPORT = "report/report.html"
FAILURES = "failures"
ASIDE = "aside"
LEASES = "lease"
LIVE = "live.json"
CALLS = "calls"
CALIBRATION = "calibration.json"
TRACKERS = "trackers"
WIP = "wip"
ELSEWHERE = "elsewhere"
CHECKPOINT_SUFFIX = ".safetensors"


def part_folders() -> tuple[str, ...]:
    """Return the folders that contain the files of units, as the stages name them."""
    return tuple(dict.fromkeys(folder for stage in stages() for folder in stage.folders))


def is_part(name: str) -> bool:
    """Return whether a unit's file can have this name; the run's own files cannot."""
    return name.split("/")[0] in part_folders()


def commit(unit_id: str) -> str:
    """Return the name of a unit's commit."""
    return f"{COMMITS}/{unit_id}.json"


def ledger(digest: str) -> str:
    """Return the name of a ledger file; it derives from the contents."""
    return f"{LEDGER}/{digest}.parquet"


def failure(unit_id: str, number: int) -> str:
    """Return the name of the record of a unit's failed attempt."""
    return f"{FAILURES}/{unit_id}-{number}.json"


def aside(unit_id: str) -> str:
    """Return the name of the record of a unit that is set aside."""
    return f"{ASIDE}/{unit_id}.json"


def lease(number: int) -> str:
    """Return the name of the record of the store's `number`-th driver."""
    return f"{LEASES}/{number:06d}.json"


def call(number: int) -> str:
    """Return the name of the record of what the store's `number`-th driver counted."""
    return f"{CALLS}/{number:06d}.json"


def tracker(name: str) -> str:
    """Return the name of the record of what a tracker has."""
    return f"{TRACKERS}/{name}.json"


def checkpoint(unit_id: str) -> str:
    """Return the name of a unit's checkpoint."""
    return f"{WIP}/{unit_id}{CHECKPOINT_SUFFIX}"


def merged_part(digest: str) -> str:
    """Return the name, in its folder, of a file merged from several parts; it derives from the contents."""
    return f"merged-{digest[:32]}.parquet"
