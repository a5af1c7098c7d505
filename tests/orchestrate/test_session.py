"""Whatever Ray's start does, the caller gets one error in one line, within the limit, and nothing stays."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import run_program

pytestmark = pytest.mark.timeout(120)

# Argument 1: what ray.init does. Prints the error, what was said meanwhile, and the children that are left.
PROGRAM = """
import json, os, subprocess, sys, time
import psutil, ray
from prism_ray.orchestrate.environment import is_ray_stuck
from prism_ray.orchestrate.session import RayStartError, ray_session

def enter():
    subprocess.Popen(["sleep", "100"])
    os.write(2, b"[C++] noise\\n")
    if sys.argv[1] == "bare": raise Exception("first\\n\\n  second")
    if sys.argv[1] == "exit": sys.exit(1)
    if sys.argv[1] == "empty": raise KeyError
    if sys.argv[1] == "hang": time.sleep(1000)
    return "entered"

found = {"error": None, "said": "", "kind": None}
try:
    with ray_session(enter, 2.0) as result:
        found["result"] = result
except Exception as error:
    found |= {"error": str(error), "said": getattr(error, "said", ""), "kind": type(error).__name__}
found |= {"left": len(psutil.Process().children()), "stuck": is_ray_stuck()}
print(json.dumps(found), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("bare", "RayStartError", "Exception: first second"),
        ("exit", "RayStartError", "SystemExit: 1"),
        ("empty", "RayStartError", "KeyError"),
        ("hang", "OrchestrateError", "Ray gave no answer for 2 s (orchestrate.ray_start_timeout_s)"),
        ("nothing", None, None),
    ],
)
def test_what_ray_s_start_raises(
    what: str, kind: str | None, message: str | None, environment: dict[str, str]
) -> None:
    """Catches 47 lines of traceback, a hang without end, and processes that outlive the command."""
    found = run_program(PROGRAM, what, environment=environment, timeout=60.0)
    assert found["kind"] == kind
    assert found["left"] == 0
    assert found["stuck"] == (what == "hang")
    if kind is None:
        assert found["result"] == "entered"
    else:
        assert found["error"].startswith(message)
        assert "\n" not in found["error"]
    if kind == "RayStartError":
        assert found["said"] == "[C++] noise\n"


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("foo", 2, "RAY_ADDRESS = foo is not an address; give host:port"),
        ("host:port", 2, "is not an address"),
        ("10.0.0.1:99999", 2, "is not an address"),
        ("http://127.0.0.1:8265", 2, "is the address of a dashboard"),
        ("127.0.0.1:1", 1, "cannot be reached: [Errno 111] Connection refused"),
        ("ray://127.0.0.1:1", 1, "cannot be reached"),
        ("no-such-host.invalid:6379", 1, "cannot be reached"),
    ],
)
def test_a_wrong_address_is_one_line(
    address: str, code: int, words: str, environment: dict[str, str], tmp_path: Path, digits_config: Path
) -> None:
    """Catches Ray's minutes of tries, and its twenty lines, for an address that is wrong."""
    program = """
import sys
from prism_ray.config import load_config
from prism_ray.errors import PrismRayError
from prism_ray.orchestrate.cluster import connect
try:
    with connect(load_config(sys.argv[1], (), "store"), 1): pass
except PrismRayError as error:
    print(error); sys.exit(error.exit_code)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(digits_config)],
        env=environment | {"RAY_ADDRESS": address},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == code, result.stderr
    assert words in result.stdout
    assert len(result.stdout.splitlines()) == 1
    assert json.dumps(result.stderr) == '""'


# The first raylet is killed as it appears. Argument: the config.
STARTS = """
import json, os, sys, threading, time
import psutil
from prism_ray.config import load_config
from prism_ray.orchestrate.cluster import connect
from tests.processes import descendants

def kill():
    while not (found := descendants(os.getpid(), "raylet")):
        time.sleep(0.01)
    found[0].kill()

threading.Thread(target=kill, daemon=True).start()
notes = []
with connect(load_config(sys.argv[1], (), "store"), 1, notes.append) as shape:
    threads = shape.num_threads
found = {"threads": threads, "notes": notes, "left": len(psutil.Process().children())}
print(json.dumps(found), flush=True)
"""


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_start_that_fails_is_tried_once_more(environment: dict[str, str], digits_config: Path) -> None:
    """Catches a run that a busy machine ends: Ray's raylet dies if another part of it is late."""
    found = run_program(STARTS, str(digits_config), environment=environment, timeout=280.0)
    assert len(found["notes"]) == 1
    assert found["notes"][0].startswith("note: a local Ray cannot start: ")
    assert found["notes"][0].endswith("; starting it once more")
    assert found["threads"] == 1
    assert found["left"] == 0


# Prints what the driver is told, and how threads of the actors' processes wait. Arguments: the config;
# whether the actors fit the cores; whether the run is new or was begun with a thread for each core.
CROWDED = """
import json, os, sys
from prism_ray.orchestrate.environment import prepare_for_local_ray
prepare_for_local_ray()
import ray
from prism_ray.config import load_config
from prism_ray.machine import num_cores
from prism_ray.orchestrate.cluster import connect

os.environ.pop("OMP_WAIT_POLICY", None)
num_threads = max(2, num_cores()) if sys.argv[3] == "resumed" else None
num_actors = 1 if sys.argv[2] == "fit" else 2 if num_threads else num_cores() + 1
config = load_config(sys.argv[1], [f"orchestrate.actors={num_actors}"], "store")
notes = []
with connect(config, num_threads, notes.append):
    there = ray.get(ray.remote(lambda: os.environ.get("OMP_WAIT_POLICY")).remote(), timeout=60)
print(json.dumps({"notes": notes, "there": there, "here": os.environ.get("OMP_WAIT_POLICY")}), flush=True)
"""


@pytest.mark.ray
@pytest.mark.parametrize(
    ("actors", "run"), [("fit", "resumed"), ("too many", "resumed"), ("too many", "new")]
)
def test_threads_of_too_many_actors_sleep_while_they_wait(
    digits_config: Path, environment: dict[str, str], actors: str, run: str
) -> None:
    """Catches a run that is resumed with more actors, says nothing and becomes several times slower.

    A new run gives each of many actors one thread, which waits for no other.
    """
    found = run_program(CROWDED, str(digits_config), actors, run, environment=environment, timeout=100.0)
    is_crowded = (actors, run) == ("too many", "resumed")
    assert found["here"] is None
    assert found["there"] == ("PASSIVE" if is_crowded else None)
    assert len(found["notes"]) == is_crowded
    assert all("orchestrate.actors = 1 may be as fast" in note for note in found["notes"])
