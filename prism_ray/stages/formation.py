"""The division of an image set into batches, and of batches into label groups. Arithmetic only.

A cross-class batch is a chunk of classes in one round of IPC indices. A joint batch is a piece of all slots
in class order, a class-wise batch a piece of one class. Batches with neighbouring numbers are labelled in one
group, and CutMix partners come from a group; so the numbering of joint and class-wise batches gives
neighbouring numbers to batches of distant classes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

from prism_ray.config import AnyImageSet

_ORDERED_KEY = re.compile(r"j(\d{7,})")
_CROSS_KEY = re.compile(r"i(\d{5,})-c(\d{5,})")


@dataclass(frozen=True, order=True)
class Slot:
    """One image of a set: its class and its IPC index."""

    label: int  # number of the class, from 0
    ipc_index: int  # number of the image within its class, from 0


@dataclass(frozen=True)
class Formation:
    """The batches and groups of one image set; the numbers of both begin at 0."""

    config: AnyImageSet
    num_classes: int
    images_per_group: int

    @property
    def num_images(self) -> int:
        return self.num_classes * self.config.ipc

    @property
    def num_batches(self) -> int:
        match self.config.formation:
            case "joint":
                return ceil_div(self.num_images, self.config.images_per_batch)
            case "class-wise":
                return self.num_classes * self._pieces_per_class
            case "cross-class":
                return ceil_div(self.config.ipc, self.config.indices_per_round) * self._num_chunks

    @property
    def _in_class_order(self) -> bool:
        """True if a batch is a range of all slots in class order: joint and class-wise."""
        return self.config.formation != "cross-class"

    @property
    def _pieces_per_class(self) -> int:
        """Class-wise batches of one class. They are of almost equal size, so that none has too few images."""
        return ceil_div(self.config.ipc, self.config.images_per_batch)

    @property
    def _classes_per_batch(self) -> int:
        return self.config.images_per_batch // self.config.indices_per_round

    @property
    def _num_chunks(self) -> int:
        return ceil_div(self.num_classes, self._classes_per_batch)

    def key(self, number: int) -> str:
        """Return the key of a batch, for example `i00002-c00100` or `j0000300`."""
        if self._in_class_order:
            return f"j{self._slots_in_order(number).start:07d}"
        round_index, classes = self._round_and_classes(number)
        return f"i{round_index * self.config.indices_per_round:05d}-c{classes.start:05d}"

    def number(self, key: str) -> int | None:
        """Return the number of the batch with a key, None if there is none; the inverse of `key`."""
        if self._in_class_order:
            found = _ORDERED_KEY.fullmatch(key)
            place = self._place_of(int(found[1])) if found else 0
            count = self.num_batches
            number = place * pow(_ordered_step(count), -1, count) % count
        else:
            found = _CROSS_KEY.fullmatch(key)
            first, label = (int(found[1]), int(found[2])) if found else (0, 0)
            round_index = first // self.config.indices_per_round
            number = round_index * self._num_chunks + label // self._classes_per_batch
        known = found and number < self.num_batches and self.key(number) == key
        return number if known else None

    def round_of(self, number: int) -> int:
        """Return the round of IPC indices of a batch; a joint or class-wise batch is a round of its own."""
        return number if self._in_class_order else self._round_and_classes(number)[0]

    def slots(self, number: int) -> tuple[Slot, ...]:
        """Return the images of a batch in order."""
        ipc = self.config.ipc
        if self._in_class_order:
            return tuple(Slot(*divmod(slot, ipc)) for slot in self._slots_in_order(number))
        indices, classes = self._indices_and_classes(number)
        return tuple(Slot(label, index) for index in indices for label in classes)

    def size(self, number: int) -> int:
        """Return the number of images of a batch, without making their slots."""
        if self._in_class_order:
            return len(self._slots_in_order(number))
        indices, classes = self._indices_and_classes(number)
        return len(indices) * len(classes)

    @property
    def batches_per_group(self) -> int:
        """Whole batches in a label group of about `relabel.images_per_group` images."""
        match self.config.formation:
            case "joint":
                size = min(self.config.images_per_batch, self.num_images)
            case "class-wise":
                size = ceil_div(self.config.ipc, self._pieces_per_class)
            case "cross-class":
                size = min(self._classes_per_batch, self.num_classes) * self.config.indices_per_round
        return max(1, self.images_per_group // size)

    @property
    def num_groups(self) -> int:
        return ceil_div(self.num_batches, self.batches_per_group)

    def group(self, number: int) -> range:
        """Return the numbers of the batches of a label group."""
        size = self.batches_per_group
        return range(number * size, min((number + 1) * size, self.num_batches))

    def group_slots(self, number: int) -> Iterator[Slot]:
        """Yield the images of a label group, batch after batch."""
        for batch in self.group(number):
            yield from self.slots(batch)

    def _slots_in_order(self, number: int) -> range:
        """Return the indices of a joint or class-wise batch's slots in class order: golden section steps."""
        count = self.num_batches
        place = number * _ordered_step(count) % count  # of the batch in class order
        if self.config.formation == "joint":
            first = place * self.config.images_per_batch
            return range(first, min(first + self.config.images_per_batch, self.num_images))
        ipc, pieces = self.config.ipc, self._pieces_per_class
        label, piece = divmod(place, pieces)
        return range(label * ipc + piece * ipc // pieces, label * ipc + (piece + 1) * ipc // pieces)

    def _place_of(self, slot: int) -> int:
        """Return the place in class order of the batch that begins with a slot; any place if none does."""
        if self.config.formation == "joint":
            return slot // self.config.images_per_batch
        label, ipc_index = divmod(slot, self.config.ipc)
        pieces = self._pieces_per_class
        return label * pieces + ceil_div(ipc_index * pieces, self.config.ipc)

    def _round_and_classes(self, number: int) -> tuple[int, range]:
        """Return the round of a cross-class batch, and its chunk of classes."""
        size = self._classes_per_batch
        round_index, chunk = divmod(number, self._num_chunks)
        return round_index, range(chunk * size, min((chunk + 1) * size, self.num_classes))

    def _indices_and_classes(self, number: int) -> tuple[range, range]:
        """Return the IPC indices of a cross-class batch, and its classes: it has an image for each pair."""
        round_index, classes = self._round_and_classes(number)
        first = round_index * self.config.indices_per_round
        return range(first, min(first + self.config.indices_per_round, self.config.ipc)), classes


def _ordered_step(count: int) -> int:
    """Return the distance in class order of two of `count` batches with neighbouring numbers.

    It is the number from 1 to `count` that is coprime to `count` and nearest to its golden section.
    """
    low = high = round(count * (5**0.5 - 1) / 2)
    while True:
        for step in (low, high):
            if step >= 1 and gcd(step, count) == 1:
                return step
        low, high = low - 1, high + 1


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the quotient of two integers, rounded up."""
    return -(-numerator // denominator)
