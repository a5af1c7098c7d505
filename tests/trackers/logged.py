"""What trackers have in their own files, read with their own packages."""

import subprocess
import sys
from pathlib import Path

_READING = {
    "tensorboard": """
import sys
from pathlib import Path
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
(path,) = Path(sys.argv[1]).glob("events.out.tfevents.*")
for raw in RawEventFileLoader(str(path)).Load():
    event = Event.FromString(raw)
    for value in event.summary.value:
        print(value.tag, event.step)
""",
    "mlflow": """
import os, sys
from pathlib import Path
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
from mlflow.tracking import MlflowClient
client = MlflowClient(Path(sys.argv[1]).as_uri())
(experiment,) = [each for each in client.search_experiments() if each.name == "prism-ray"]
(run,) = client.search_runs([experiment.experiment_id])
for tag in run.data.metrics:
    for metric in client.get_metric_history(run.info.run_id, tag):
        print(tag, metric.step)
for file in client.list_artifacts(run.info.run_id, "images"):
    if file.path.endswith(".png"):
        key, _, rest = Path(file.path).name.partition("+step+")
        print(key.replace("~", "/"), rest.partition("+")[0])
""",
}


def logged(store: Path, name: str) -> list[tuple[str, int]]:
    """Tag and step of every point and picture that the only run of a tracker has."""
    folder = store / "trackers" / name
    done = subprocess.run(
        [sys.executable, "-c", _READING[name], str(folder)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [(line.split()[0], int(line.split()[1])) for line in done.stdout.splitlines()]
