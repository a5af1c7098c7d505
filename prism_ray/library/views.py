"""Torch datasets of a run: what its students train with, view by view, and the real images of their tests.

The pixels are those of the stage evaluate: both render with relabel/views.py. docs/library.md specifies a
view for readers without this code.
"""

import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from prism_ray.data import RealImages, Split, open_data
from prism_ray.errors import DataError, UsageError
from prism_ray.parts.images import ImageForm, read_images
from prism_ray.parts.labels import EpochLabels, LabelForm, LabelReader
from prism_ray.parts.views import Views, label_epoch_of
from prism_ray.relabel.augment import rand_augment
from prism_ray.relabel.views import ViewTensors, render
from prism_ray.run import Run, load_run, read_index
from prism_ray.run.sets import commits_of_set
from prism_ray.seeds import derive_seed
from prism_ray.stages.formation import Slot
from prism_ray.stages.squeeze import scope_of_teacher
from prism_ray.store import Commit, StoreFiles, layout, read_commit
from prism_ray.store.remedy import damaged
from prism_ray.suggest import did_you_mean
from prism_ray.teachers.cards import read_card
from prism_ray.teachers.teacher import Preprocessing, to_pixels


class View(NamedTuple):
    """How an image is shown in an epoch; a batch of a DataLoader has a tensor (B,) in each field.

    Lengths are in pixels of the square image. docs/library.md says how a view is made from them.
    """

    epoch: int  # whose labels these are; with label pruning several epochs share one
    ipc_index: int
    crop_top: int
    crop_left: int
    crop_height: int
    crop_width: int
    flip: bool
    partner_label: int  # the image in the CutMix box
    partner_ipc_index: int
    box_top: int
    box_left: int
    box_height: int  # 0: no box
    box_width: int
    swap_columns: bool
    swap_rows: bool
    augment_seed: int  # of RandAugment; 0: none
    own_share: float = 1.0  # with MixUp: of the view's own image in its pixels, before the box


_OFTEN = 5  # that an epoch is read on purpose
Sample = tuple[Tensor, int, Tensor, View]
_COLUMNS = View._fields[1:]


class _Epoch(NamedTuple):
    """The labels of one epoch, in the order of the images."""

    number: int
    views: Views
    partner: npt.NDArray[np.int64]  # N: position of the partner
    soft_labels: Tensor  # N, C


class DistilledViews(Dataset[Sample]):
    """The images of a set as students see them in one epoch, with their soft labels; see `prism_ray.load`.

    Item i is image i % ipc of class i // ipc, as the tuple (image, label, soft label, view):

    image       float32 (3, S, S): the view, normalised for the network (or (channels, H, W) in [0, 1])
    label       int: class of the image
    soft label  float32 (C,): logits of the teachers, before any softmax. With evaluate.marginal =
                renormalise, classes that the encoding left out have -inf
    view        View: what was done to the image

    Any DataLoader takes it: each worker process opens the label files for itself. `set_epoch` reaches
    persistent workers too.
    """

    def __init__(
        self,
        files: StoreFiles,
        run: Run,
        image_set: str,
        evaluation: str,
        student: int,
        normalise: bool,
    ) -> None:
        """`run` is that of the config which names the set. Raises as `prism_ray.load`."""
        config, plan = run.config, run.plan
        self._files, self._run, self._image_set = files, run, image_set
        self._commits: list[Commit] = commits_of_set(files, run, image_set, "relabel")
        image_commits = commits_of_set(files, run, image_set)
        self._stored = read_images(files, image_commits, ImageForm.of(plan, image_set))
        slots = self._stored.slots
        order = sorted(range(len(slots)), key=lambda row: slots[row])
        self._rows = np.array(order, dtype=np.int64)  # of each item among the images, which stay as read
        expected = [Slot(*divmod(index, self.ipc)) for index in range(plan.num_images(image_set))]
        if [slots[row] for row in order] != expected:
            raise damaged(
                files, f"{layout.COMMITS}/recover/{image_set}", "images are missing, or there twice"
            )
        self._form = LabelForm.of(plan, image_set)
        self._preprocessing = preprocessing_of(files, run)
        self._normalise = normalise
        settings = config.evaluations[evaluation]
        self._drops_others = settings.loss == "kl" and settings.marginal == "renormalise"
        self._order_seed = derive_seed(derive_seed(config.seed, "evaluate", student), "order")
        self._settings = settings
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]  # workers see it change
        self._forget()

    def _forget(self) -> None:
        self._now: _Epoch | None = None
        self._reader: LabelReader | None = None
        self._reader_pid = 0
        self._read_in = (0, 0)  # epoch, items that were read in it
        self._is_warned = False

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_now": None, "_reader": None}  # open files cannot be sent to workers

    @property
    def ipc(self) -> int:
        """Images per class."""
        return self._run.config.image_sets[self._image_set].ipc

    @property
    def image_set(self) -> str:
        return self._image_set

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label."""
        return self._run.facts.class_names

    @property
    def num_epochs(self) -> int:
        """The epochs that a student of the run trains for (relabel.epochs)."""
        return self._run.config.relabel.epochs

    @property
    def evaluation(self) -> dict[str, Any]:
        """The settings of the students (section `evaluate` of the config), as plain data."""
        values: dict[str, Any] = self._settings.model_dump(mode="json")
        return values

    @property
    def mean(self) -> tuple[float, float, float]:
        """Of red, green and blue in [0, 1]; subtracted from the pixels."""
        return self._preprocessing.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """Of red, green and blue in [0, 1]; pixels are divided by it."""
        return self._preprocessing.std

    @property
    def input_size(self) -> int:
        """Side S of the network's input in pixels, to which normalised images are resized."""
        return self._preprocessing.size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0 to num_epochs - 1, whose views the items are; call it before each epoch.

        Raises UsageError beyond that.
        """
        if not 0 <= epoch < self.num_epochs:
            raise UsageError(
                f"epoch = {epoch}: the labels are for the epochs 0 to {self.num_epochs - 1} (relabel.epochs)"
            )
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self._stored.slots)

    def __getitem__(self, index: int) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Return the items of a batch at once; DataLoader calls it. Raises IndexError and StoreError."""
        count = len(self)
        if any(not -count <= index < count for index in indices):
            raise IndexError(f"{list(indices)}: the set has {count} images")
        pick = np.array([index % count for index in indices], dtype=np.int64)
        now = self._labels()
        self._notice(len(pick))
        images = self._render(now, pick)
        columns = [vars(now.views)[name][pick].tolist() for name in _COLUMNS if name in vars(now.views)]
        labels = now.views.label[pick].tolist()
        views = (View(now.number, *values) for values in zip(*columns, strict=True))
        return list(zip(images, labels, now.soft_labels[pick], views, strict=True))

    def test_images(self, split: str | None = None) -> "RealImageDataset":
        """Return the real images that students are tested on, as a torch Dataset of (image, label).

        `split` is test, validation or train; by default that of the evaluation. Images have the same form as
        those of this dataset. Raises UsageError if there is no such split, DataError if the real images are
        not here or have changed.
        """
        name = split or self._settings.split
        data = open_real_images(self._files, self._run)
        known = [each for each, labels in data.labels.items() if len(labels)]
        if name not in known:
            raise UsageError(f"split = {name!r}: the data has {', '.join(known)}{did_you_mean(name, known)}")
        preprocessing = self._preprocessing if self._normalise else None
        return RealImageDataset(data, next(each for each in data.labels if each == name), preprocessing)

    def _notice(self, num_read: int) -> None:
        """Warn once if an epoch is read again and again: then set_epoch was forgotten."""
        epoch, (before, count) = int(self._epoch), self._read_in
        self._read_in = (epoch, num_read + (count if epoch == before else 0))
        if self._read_in[1] > _OFTEN * len(self) and not self._is_warned:
            self._is_warned = True
            warnings.warn(
                f"the {len(self)} views of epoch {epoch} were read more than {_OFTEN} times; call "
                "set_epoch(epoch) before each epoch, because every epoch has views of its own",
                stacklevel=4,
            )

    def _labels(self) -> _Epoch:
        """Return the labels of the present epoch, from memory if they were read last."""
        relabel = self._run.config.relabel
        number = label_epoch_of(int(self._epoch), relabel.num_label_epochs, self._order_seed)
        if self._now is None or self._now.number != number:
            self._now = self._in_order(self._read(number))
        return self._now

    def _read(self, number: int) -> EpochLabels:
        if self._reader is None or self._reader_pid != os.getpid():
            # Processes must not share open files, nor connections.
            files, self._reader_pid = StoreFiles(self._files.location), os.getpid()
            self._reader = LabelReader(files, self._commits, self._form, again=True)
        found = self._reader.sound_epoch(number, self._image_set)
        if len(found.views) != len(self):
            where = f"{layout.COMMITS}/relabel/{self._image_set}"
            count = f"{len(found.views)} soft labels for {len(self)} images"
            raise damaged(self._files, where, f"epoch {number}: {count}")
        return found

    def _in_order(self, found: EpochLabels) -> _Epoch:
        by_slot = np.lexsort((found.views.ipc_index, found.views.label))
        views = found.views.pick(by_slot)
        partner = views.partner_label * self.ipc + views.partner_ipc_index
        is_known = (views.partner_label >= 0) & (views.partner_ipc_index >= 0) & (partner < len(self))
        if not (is_known & (views.partner_ipc_index < self.ipc)).all():
            where = f"{layout.COMMITS}/relabel/{self._image_set}"
            raise damaged(self._files, where, f"epoch {found.epoch} names a partner that is not in the set")
        soft_labels = torch.from_numpy(found.logits[by_slot]).to(torch.float32)
        if self._drops_others and found.kept is not None:
            soft_labels = soft_labels.masked_fill(torch.from_numpy(~found.kept[by_slot]), -torch.inf)
        return _Epoch(found.epoch, views, partner, soft_labels)

    def _render(self, now: _Epoch, pick: npt.NDArray[np.int64]) -> Tensor:
        """Return the views `pick` (B,) as pixels (B, channels, H, W), or as the network's input."""
        both = np.concatenate([pick, now.partner[pick]])
        images = self._stored.images[self._rows[both]]
        for image, seed in zip(images, now.views.augment_seed[both].tolist(), strict=True):
            if seed:
                image[:] = rand_augment(image, seed)
        columns = {name: torch.from_numpy(values[both]) for name, values in vars(now.views).items()}
        count = len(pick)
        views = ViewTensors(
            image=torch.arange(2 * count),
            partner=torch.arange(2 * count).roll(count),
            columns=columns,
            has_swaps=now.views.has_swaps,
            has_partners=now.views.has_partners,
        )
        pixels = render(torch.from_numpy(images), views, torch.arange(count))
        return self._preprocessing.apply(pixels) if self._normalise else pixels


class RealImageDataset(Dataset[tuple[Tensor, int]]):
    """Real images of a split as (image, label), in the form of the run's students' input.

    The image is float32 (3, S, S), normalised, or without normalisation (channels, H, W) in [0, 1]. Reading
    raises DataError if a file cannot be read, or is not the one that the run began with.
    """

    def __init__(self, data: RealImages, split: Split, preprocessing: Preprocessing | None) -> None:
        self._data, self._split, self._preprocessing = data, split, preprocessing

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._data.class_names

    def __len__(self) -> int:
        return len(self._data.labels[self._split])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        count = len(self)
        if any(not -count <= index < count for index in indices):
            raise IndexError(f"{list(indices)}: the split has {count} images")
        pick = np.array([index % count for index in indices], dtype=np.int64)
        pixels = to_pixels(torch.from_numpy(self._data.read(self._split, pick)))
        if self._preprocessing is not None:
            pixels = self._preprocessing.apply(pixels)
        return list(zip(pixels, self._data.labels[self._split][pick].tolist(), strict=True))


def load_views(
    store: str | os.PathLike[str],
    image_set: str | None,
    evaluation: str | None,
    student: int,
    normalise: bool,
) -> DistilledViews:
    """Return the dataset of an image set; see `prism_ray.load`."""
    files = StoreFiles(os.fspath(store))
    run = load_run(files)
    name = image_set or run.plan.image_sets[0]
    its_run = run.of_image_set(name, files.location)
    evaluations = its_run.config.evaluations
    chosen = evaluation or next(iter(evaluations))
    if chosen not in evaluations:
        hint = did_you_mean(chosen, list(evaluations))
        raise UsageError(
            f"{files.location} has no evaluation {chosen!r}{hint}; it has {', '.join(evaluations)}"
        )
    if student < 0:
        raise UsageError(f"student = {student}: students are counted from 0")
    return DistilledViews(files, its_run, name, chosen, student, normalise)


def preprocessing_of(files: StoreFiles, run: Run) -> Preprocessing:
    """Return the form of the students' input, which is that of the primary; StoreError if it is missing."""
    return read_card(files, read_commit(files, scope_of_teacher(run.config.primary))).preprocessing


def open_real_images(files: StoreFiles, run: Run) -> RealImages:
    """Open the real images of a run; raises DataError if they are not here, or not those of the run."""
    config = run.config.data
    is_folder = config.source == "image-folder"
    data = open_data(config, read_index(files) if is_folder else None)
    if not is_folder and data.identity() != run.facts.identity:
        raise DataError(
            f"{files.location}: data.source = {config.source!r}: the real images are not those that the run "
            "began with; put the earlier files in their place"
        )
    return data
