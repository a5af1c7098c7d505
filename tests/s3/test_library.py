"""A store on S3 as a library: worker processes make connections of their own, and exports read it."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import prism_ray
from tests.s3.reach import ServerStart
from tests.worked import work

pytestmark = [pytest.mark.s3, pytest.mark.timeout(280)]


def test_any_data_loader_reads_from_s3(start_server: ServerStart, tmp_path: Path) -> None:
    """Catches workers that share the connections of their parent, and hang, and a copy that differs."""
    start_server()
    work("s3://bucket/run", until="relabel")
    work(tmp_path / "run", until="relabel")
    data, local = prism_ray.load("s3://bucket/run"), prism_ray.load(tmp_path / "run")
    for num_workers in (0, 2):
        for epoch in (0, 3):
            data.set_epoch(epoch)
            local.set_epoch(epoch)
            loader = DataLoader(data, batch_size=20, num_workers=num_workers)
            ((image, label, soft_label, view),) = loader
            assert torch.equal(image, torch.stack([local[index][0] for index in range(20)]))
            assert torch.equal(soft_label, torch.stack([local[index][2] for index in range(20)]))
            assert label.tolist() == [index // 2 for index in range(20)]
            assert view.epoch.tolist() == [epoch] * 20
    run = prism_ray.open_run("s3://bucket/run")
    assert run.images().num_rows == 20
    assert set(run.units()["state"].to_pylist()) == {"done", "pending"}
