"""MLflow: the server of MLFLOW_TRACKING_URI, else files in a local folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from prism_ray.trackers.base import Item, Picture, Point, TrackedRun, Tracker

_EXPERIMENT = "prism-ray"
_RUN_TAG = "prism_ray.run"
_MAX_METRICS = 1000  # in one request
# MLflow itself waits two minutes for an answer, and asks eight times.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


class MLflow(Tracker):
    """Logs to a run of the experiment `prism-ray`, or of MLFLOW_EXPERIMENT_NAME."""

    name = "mlflow"
    package = "mlflow"

    def __init__(self, run: TrackedRun) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:  # a database in a store on NFS would be damaged; files are safe
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            Path(run.folder).mkdir(parents=True, exist_ok=True)
            uri = Path(run.folder).as_uri()
        from mlflow.tracking import MlflowClient

        self.where = uri
        self._client = MlflowClient(tracking_uri=uri)
        found = run.state.get("run_id")
        if found is not None:
            self._run_id = str(found)
            self._client.set_terminated(self._run_id, "RUNNING")
            return
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        known = self._client.get_experiment_by_name(experiment)
        number = known.experiment_id if known else self._client.create_experiment(experiment)
        runs = self._client.search_runs([number], f"tags.`{_RUN_TAG}` = '{run.id}'", max_results=1)
        self.is_doubtful = bool(runs)
        if runs:
            self._run_id = runs[0].info.run_id
            self._client.set_terminated(self._run_id, "RUNNING")
        else:
            tags = {_RUN_TAG: run.id, "prism_ray.store": run.location}
            self._run_id = self._client.create_run(number, tags=tags, run_name=run.name).info.run_id
            self._client.log_dict(self._run_id, dict(run.config), "config.json")

    def log(self, items: Sequence[Item]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(item.tag, item.value, round(item.time * 1000), item.step)
            for item in items
            if isinstance(item, Point)
        ]
        for first in range(0, len(metrics), _MAX_METRICS):
            self._client.log_batch(self._run_id, metrics=metrics[first : first + _MAX_METRICS])
        for item in items:
            if isinstance(item, Picture):
                self._client.log_image(
                    self._run_id,
                    Image.fromarray(item.pixels),
                    key=item.tag,
                    step=item.step,
                    timestamp=round(item.time * 1000),
                )

    def missing(self, items: Sequence[Item]) -> Sequence[Item]:
        tags = {item.tag for item in items if isinstance(item, Point)}
        there = {
            (tag, metric.step)
            for tag in tags
            for metric in self._client.get_metric_history(self._run_id, tag)
        }
        files = [file.path for file in self._client.list_artifacts(self._run_id, "images")]
        return [
            item
            for item in items
            if (item.tag, item.step) not in there
            and not (isinstance(item, Picture) and any(_name(item) in file for file in files))
        ]

    def state(self) -> dict[str, Any]:
        return {"run_id": self._run_id}

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


def _name(item: Picture) -> str:
    """Return how the file of a picture begins, as MLflow names it."""
    return f"{item.tag.replace('/', '~')}+step+{item.step}+"
