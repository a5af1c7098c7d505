"""TensorBoard: one file of events in a local folder, which later calls continue.

The file is written with TensorBoard's own record writer, because torch's SummaryWriter would load torch. The
state is the size of the file: what a killed call wrote beyond it is cut off and written again.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from prism_ray.trackers.base import Item, Point, TrackedRun, Tracker


class TensorBoard(Tracker):
    """Writes events."""

    name = "tensorboard"
    package = "tensorboard"

    def __init__(self, run: TrackedRun) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.where = run.folder
        path = Path(run.folder) / f"events.out.tfevents.{run.id}"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        size = run.state.get("num_bytes", 0)
        if not isinstance(size, int) or not 0 <= size <= self._file.tell():
            raise ValueError(
                f"{path} has {self._file.tell()} bytes, and {size} were written; delete trackers/"
                f"{self.name}.json in the store, and all is written again"
            )
        self._file.truncate(size)
        self._file.seek(size)
        self._event, self._records = Event, RecordWriter
        if size == 0:
            self._write([Event(wall_time=0.0, file_version="brain.Event:2")])

    def _write(self, events: Sequence[Any]) -> None:
        buffer = io.BytesIO()
        records = self._records(buffer)
        for event in events:
            records.write(event.SerializeToString())
        data = buffer.getvalue()
        if self._file.write(data) != len(data):
            raise OSError(f"{self._file.name}: no space left")

    def log(self, items: Sequence[Item]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        events = []
        for item in items:
            if isinstance(item, Point):
                value = Summary.Value(tag=item.tag, simple_value=item.value)
            else:
                sink = io.BytesIO()
                Image.fromarray(item.pixels).save(sink, "PNG")
                height, width, _ = item.pixels.shape
                image = Summary.Image(
                    height=height, width=width, colorspace=3, encoded_image_string=sink.getvalue()
                )
                value = Summary.Value(tag=item.tag, image=image)
            events.append(self._event(wall_time=item.time, step=item.step, summary=Summary(value=[value])))
        self._write(events)

    def state(self) -> dict[str, Any]:
        os.fsync(self._file.fileno())
        return {"num_bytes": self._file.tell()}

    def close(self) -> None:
        self._file.close()
