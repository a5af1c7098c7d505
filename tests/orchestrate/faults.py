"""A small run on a real Ray in which something goes wrong, for tests of actors and of the dispatcher."""

from collections.abc import Sequence
from pathlib import Path

from tests.programs import run_program

# Runs in a process of its own, because a local Ray's environment must be settled before Ray is imported.
# Argument 1: what goes wrong; 2: the store; 3: the config; then overrides.
PROGRAM = """
import json, os, signal, sys, threading
from dataclasses import replace
from prism_ray.orchestrate.environment import prepare_for_local_ray
prepare_for_local_ray()
import ray
from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.errors import PrismRayError
from prism_ray.orchestrate.cluster import connect
from prism_ray.orchestrate.dispatch import Dispatcher
from prism_ray.orchestrate.losses import Losses
from prism_ray.orchestrate.scaling import Shape
from prism_ray.orchestrate.scheduler import Ready
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.run import Ledger, new_run, save_run
from prism_ray.store import StoreFiles
from tests.processes import descendants

fault, store, path, *overrides = sys.argv[1:]
config = load_config(path, overrides, store)
files = StoreFiles(store)
heard = []

class Listener:
    def began(self, unit):
        pass
    def message(self, text):
        heard.append(["message", text])
    def done(self, commit):
        heard.append(["done", commit.unit])
        if fault in ("kill", "fewer") and len(heard) == 1:
            victim = next(actor for actor in dispatcher.actors._actors.values() if actor.info)
            os.kill(victim.info.pid, signal.SIGKILL)
    def failed(self, failure, again):
        heard.append(["failed", failure.unit_id, failure.error, again])
    def tick(self, actors):
        pass

def kill_first_actor():
    while not (found := descendants(os.getpid(), "ray::WorkerActo")):
        pass
    found[0].kill()

try:
    with connect(config, 1) as shape:
        run = save_run(files, new_run(config, open_data(config.data).facts(), 1))
        if fault == "pending":
            shape = Shape(1, 1, num_threads=1, num_gpus=1.0)
        if fault == "crowded":  # each actor wants all the CPUs that there are
            shape = Shape(2, 2, num_threads=int(ray.cluster_resources()["CPU"]), num_gpus=0.0)
        if fault == "fewer":  # another way to treat a dead actor
            shape = Shape(2, 2, num_threads=1, num_gpus=0.0)
            after_death = Losses.after_death
            Losses.after_death = lambda *arguments: replace(after_death(*arguments), replaces=False)
        with Dispatcher(config, files, shape, Listener(), Ledger(files)) as dispatcher:
            if fault == "early":
                killer = threading.Thread(target=kill_first_actor, daemon=True)
                killer.start()
                check_networks = dispatcher.actors.check_networks
                def check_after_the_kill(*arguments):
                    killer.join()  # on a busy machine the actor may be ready before it is found
                    return check_networks(*arguments)
                dispatcher.actors.check_networks = check_after_the_kill
                dispatcher.check_networks(list(map(str, range(10))), frozenset())
                print(json.dumps({"deaths": dispatcher.losses.num_deaths_in_a_row}))
            elif fault == "arch":
                dispatcher.check_networks(list(map(str, range(10))), frozenset())
            elif fault == "unit":
                bad = RecoverUnit("distilled", "bad", (Slot(0, 0),), (5,), (("resnet",),), 1)
                good = next(u for u in run.plan.units("recover", "random-real"))
                print(json.dumps({"set_aside": dispatcher.do(run, Ready([bad, good])), "heard": heard}))
            elif fault in ("kill", "crowded", "fewer"):
                aside = dispatcher.do(run, Ready(run.plan.units("recover", "random-real")))
                num_left = len(dispatcher.actors.names)
                print(json.dumps({"set_aside": aside, "heard": heard, "num_left": num_left}))
            else:
                dispatcher.do(run, Ready(run.plan.units("squeeze")))
except PrismRayError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


def run_fault(
    fault: str, store: Path, config: Path, overrides: Sequence[str], environment: dict[str, str]
) -> dict[str, object]:
    arguments = (fault, str(store), str(config), *overrides)
    return run_program(PROGRAM, *arguments, environment=environment, timeout=150.0)
