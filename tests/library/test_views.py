"""The dataset of `prism_ray.load`: what evaluate's students see, through any DataLoader."""

import pickle
import shutil
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.utils.data import DataLoader

import prism_ray
from prism_ray.cli import main
from prism_ray.errors import DataError, StoreError, UsageError
from prism_ray.library.views import DistilledViews, View
from prism_ray.parts.labels import LabelForm, LabelReader
from prism_ray.parts.views import label_epoch_of
from prism_ray.relabel.augment import ShownImages
from prism_ray.relabel.views import render, to_device
from prism_ray.run.sets import commits_of_set
from prism_ray.seeds import derive_seed
from prism_ray.work.context import WorkContext
from tests.stores import copy_store
from tests.worked import work

CPU = torch.device("cpu")


def of_evaluate(store: Path, image_set: str, epoch: int, *values: str) -> dict[tuple[int, int], Any]:
    """Return slot -> (input of the network, logits, kept) by the functions that evaluate calls."""
    files, run = work(store, *values, until="relabel")
    context = WorkContext(run, files, CPU)
    batches = context.commits_of(run.plan.unit_ids("recover", image_set))
    stored = context.images_of_set(image_set, batches)
    form = LabelForm.of(run.plan, image_set)
    labels = LabelReader(files, commits_of_set(files, run, image_set, "relabel"), form).epoch(epoch)
    pixels = render(
        ShownImages(stored, CPU).of_epoch(labels.views),
        to_device(labels.views, stored.slots, CPU),
        torch.arange(len(labels.views)),
    )
    inputs = context.teacher(run.config.primary).preprocessing.apply(pixels)
    kept = [None] * len(inputs) if labels.kept is None else labels.kept
    slots = zip(labels.views.label.tolist(), labels.views.ipc_index.tolist(), strict=True)
    return dict(zip(slots, zip(inputs, labels.logits, kept, strict=True), strict=True))


@pytest.mark.parametrize("image_set", ["distilled", "random-real"])
def test_items_are_what_students_see(worked: Path, image_set: str) -> None:
    """Catches another order of crop, flip and box, another partner, or other mean and std than evaluate's."""
    data = prism_ray.load(worked, image_set)
    assert isinstance(data, torch.utils.data.Dataset)
    assert (len(data), data.num_epochs, data.ipc) == (20, 6, 2)
    for epoch in (0, 5, 2):
        data.set_epoch(epoch)
        expected = of_evaluate(worked, image_set, epoch)
        for index in range(len(data)):
            image, label, soft_label, view = data[index]
            assert (label, view.ipc_index) == divmod(index, 2)
            inputs, logits, _ = expected[divmod(index, 2)]
            assert view.epoch == epoch
            assert torch.equal(image, inputs)
            assert np.array_equal(soft_label.numpy(), logits.astype(np.float32))
            assert (image.shape, image.dtype, soft_label.dtype) == ((3, 32, 32), torch.float32, torch.float32)


@pytest.mark.parametrize(
    "values",
    [
        ("relabel.cutmix_alpha=0",),
        ("relabel.patch_shuffle=true", "relabel.rand_augment=true"),
        ("relabel.encoding=int8", "relabel.mixup_alpha=0.8"),
        ("relabel.encoding=top-3-int4", "evaluate.loss=kl", "evaluate.marginal=renormalise"),
        ("relabel.encoding=top-3", "evaluate.loss=kl"),
        ("relabel.view_parameters=drawn", "relabel.mixup_alpha=0.8"),
        ("store.image_format=png",),
    ],
    ids=lambda values: values[0].partition("=")[2],
)
def test_every_kind_of_view_and_label(tmp_path: Path, values: tuple[str, ...]) -> None:
    """Catches views without CutMix or with RandAugment, and encodings, that differ from evaluate's."""
    store = tmp_path / "run"
    work(store, *values, until="relabel")
    data = prism_ray.load(store)
    data.set_epoch(1)
    expected = of_evaluate(store, "distilled", 1, *values)
    for index, (image, label, soft_label, view) in enumerate(data):
        inputs, logits, kept = expected[divmod(index, 2)]
        wanted = torch.from_numpy(logits.astype(np.float32))
        if "evaluate.marginal=renormalise" in values:
            wanted[torch.from_numpy(~kept)] = -torch.inf
        assert torch.equal(image, inputs)
        assert torch.equal(soft_label, wanted)
        assert (view.box_height * view.box_width > 0) <= ("relabel.cutmix_alpha=0" not in values)
        assert (view.augment_seed > 0) == ("relabel.rand_augment=true" in values)
        assert label == index // 2


def rows_of(data: DistilledViews, epoch: int, **options: Any) -> dict[tuple[int, int], tuple[Any, ...]]:
    """Return slot -> item of an epoch, as a DataLoader with some options gives them."""
    data.set_epoch(epoch)
    found = {}
    for image, label, soft_label, view in DataLoader(data, **options):
        assert isinstance(view, View)
        for row in range(len(label)):
            slot = int(label[row]), int(view.ipc_index[row])
            assert slot not in found
            found[slot] = (image[row], soft_label[row], *(int(values[row]) for values in view))
    return found


def same(first: dict[Any, Any], second: dict[Any, Any]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and a[2:] == b[2:]
        for a, b in ((first[key], second[key]) for key in first)
    )


def test_any_data_loader_gives_the_same_items(worked: Path) -> None:
    """Catches items that depend on the batch, and workers that share a file or cannot be started."""
    data = prism_ray.load(worked)
    expected = rows_of(data, 3, batch_size=20)
    for options in (
        {"batch_size": 1},
        {"batch_size": 7, "shuffle": True},
        {"batch_size": 100, "num_workers": 1},
        {"batch_size": 3, "shuffle": True, "num_workers": 2},
        {"batch_size": 6, "num_workers": 1, "multiprocessing_context": "spawn"},
    ):
        assert same(rows_of(prism_ray.load(worked), 3, **options), expected), options


def test_an_epoch_reaches_workers_that_live_on(worked: Path) -> None:
    """Catches persistent workers that show the views of the first epoch for ever."""
    data = prism_ray.load(worked)
    loader = DataLoader(data, batch_size=8, shuffle=True, num_workers=2, persistent_workers=True)
    for epoch in (0, 1, 5):
        data.set_epoch(epoch)
        assert {int(number) for *_, view in loader for number in view.epoch} == {epoch}


def test_a_dataset_can_be_sent_elsewhere(worked: Path) -> None:
    """Catches open files in a dataset that Ray or joblib pickles."""
    data = prism_ray.load(worked)
    data.set_epoch(2)
    first = data[4]
    again = pickle.loads(pickle.dumps(data))[4]
    assert torch.equal(first[0], again[0])
    assert first[3] == again[3]


@pytest.mark.parametrize("commands", [("compact",), ("compact", "gc --older-than 0")])
def test_it_does_not_matter_in_which_files_the_labels_are(
    worked: Path, tmp_path: Path, commands: tuple[str, ...]
) -> None:
    """Catches a dataset that looks for files by their names."""
    store = tmp_path / "run"
    shutil.copytree(worked, store)
    for command in commands:
        name, *options = command.split()
        assert CliRunner().invoke(main, [name, *options, str(store)]).exit_code == 0
    options = {"batch_size": 20}
    assert same(rows_of(prism_ray.load(store), 4, **options), rows_of(prism_ray.load(worked), 4, **options))


def test_pruned_labels_come_again_in_the_order_of_the_student(tmp_path: Path) -> None:
    """Catches epochs beyond the stored ones that fail, or come in another order than evaluate's."""
    store = tmp_path / "run"
    _, run = work(store, "relabel.prune_ratio=0.5", until="relabel")
    orders = []
    for student in (0, 1):
        data = prism_ray.load(store, student=student)
        assert data.num_epochs == 6
        seed = derive_seed(derive_seed(run.config.seed, "evaluate", student), "order")
        order = []
        for epoch in range(6):
            data.set_epoch(epoch)
            order.append(data[0][3].epoch)
        assert order == [label_epoch_of(epoch, 3, seed) for epoch in range(6)]
        assert order[:3] == [0, 1, 2]
        orders.append(order)
    assert sorted(orders[0][3:]) == sorted(orders[1][3:]) == [0, 1, 2]


def test_without_normalisation_images_are_pixels(worked: Path) -> None:
    """Catches mean and std that are not those of the normalised images."""
    data, plain = prism_ray.load(worked), prism_ray.load(worked, normalise=False)
    pixels = plain[3][0]
    assert pixels.shape == (1, 32, 32)
    assert 0.0 <= pixels.min() <= pixels.max() <= 1.0
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    assert torch.allclose((pixels - mean) / std, data[3][0], atol=1e-6)
    real, plain_real = data.test_images(), plain.test_images()
    assert torch.allclose((plain_real[0][0] - mean) / std, real[0][0], atol=1e-6)


def test_the_real_images_are_those_of_the_students_test(worked: Path) -> None:
    """Catches test images in another order, size or normalisation than evaluate's."""
    files, run = work(worked)
    context = WorkContext(run, files, CPU)
    data = prism_ray.load(worked).test_images()
    labels = context.data.labels["test"]
    assert len(data) == len(labels)
    assert data.class_names == run.facts.class_names
    read = torch.from_numpy(context.data.read("test", np.arange(len(labels)))) / 255.0
    expected = context.teacher(run.config.primary).preprocessing.apply(read)
    loaded = list(DataLoader(data, batch_size=100, num_workers=2))
    assert torch.equal(torch.cat([image for image, _ in loaded]), expected)
    assert torch.cat([label for _, label in loaded]).tolist() == labels.tolist()
    assert len(prism_ray.load(worked).test_images("train")) == len(context.data.labels["train"])
    with pytest.raises(UsageError, match="split = 'tests': the data has train, test; did you mean 'test'"):
        prism_ray.load(worked).test_images("tests")


def test_other_real_images_are_refused(worked: Path) -> None:
    """Catches a student that is tested on other images than those that evaluate took."""
    data = prism_ray.load(worked)
    facts = replace(data._run.facts, identity="of other files")
    data._run = replace(data._run, facts=facts)
    with pytest.raises(DataError, match="the real images are not those that the run began with"):
        data.test_images()


def test_wrong_input_is_said(worked: Path, tmp_path: Path) -> None:
    """Catches a KeyError, or the views of epoch 0 where there is none."""
    data = prism_ray.load(worked)
    for epoch in (-1, 6):
        with pytest.raises(UsageError, match=rf"epoch = {epoch}: the labels are for the epochs 0 to 5"):
            data.set_epoch(epoch)
    with pytest.raises(IndexError, match="20 images"):
        data[20]
    assert torch.equal(data[-1][0], data[19][0])
    assert len(list(data)) == 20  # ends
    with pytest.raises(UsageError, match="has no evaluation 'studnet'; did you mean 'student'"):
        prism_ray.load(worked, evaluation="studnet")
    with pytest.raises(UsageError, match="student = -1"):
        prism_ray.load(worked, student=-1)
    with pytest.raises(UsageError, match="has no image set 'random'"):
        prism_ray.load(worked, "random")
    with pytest.raises(UsageError, match="contains no run"):
        prism_ray.load(tmp_path)


def test_labels_that_are_not_there_are_said(worked: Path, tmp_path: Path) -> None:
    """Catches a dataset of half of the labels, or an error of a file where none is damaged."""
    half = tmp_path / "half"
    copy_store(worked, half, lambda unit: not unit.startswith(("relabel/distilled/g00001", "evaluate")))
    with pytest.raises(UsageError, match="the soft labels of 'distilled' are not finished, 6 of 9 units"):
        prism_ray.load(half)
    online = tmp_path / "online"
    work(online, "relabel.mode=online", until="recover")
    with pytest.raises(UsageError, match=r"relabel.mode is online.*--set relabel.mode=stored"):
        prism_ray.load(online)


def test_a_damaged_label_file_is_named(worked: Path, tmp_path: Path) -> None:
    """Catches labels that are trained on although their bytes are not those of the commit."""
    store = tmp_path / "run"
    shutil.copytree(worked, store)
    part = next((store / "labels").glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-9] + b"x" * 9)
    with pytest.raises(StoreError, match="verify --repair"):
        prism_ray.load(store)[0]


def test_a_forgotten_epoch_is_said_once(worked: Path) -> None:
    """Catches a loop that trains on the views of the first epoch only, in silence."""
    data = prism_ray.load(worked)
    loader = DataLoader(data, batch_size=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for epoch in range(6):
            data.set_epoch(epoch)
            list(loader)
            data[0]
    with pytest.warns(
        UserWarning, match=r"the 20 views of epoch 5 were read more than 5 times; call set_epoch"
    ):
        [list(loader) for _ in range(7)]


def test_epochs_differ(worked: Path) -> None:
    """Catches a set_epoch without effect."""
    data = prism_ray.load(worked)
    views = []
    for epoch in range(data.num_epochs):
        data.set_epoch(epoch)
        views.append([data[index][3][2:] for index in range(len(data))])
    assert all(first != second for first, second in pairwise(views))
