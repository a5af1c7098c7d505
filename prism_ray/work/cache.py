"""The teachers that one device has loaded: those used last stay, as many as the limit in bytes allows."""

from collections import OrderedDict
from collections.abc import Callable, Container

from prism_ray.teachers.teacher import Teacher


class TeacherCache:
    """Teachers by name; counts how often one was there already."""

    def __init__(self, max_bytes: float) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, tuple[Teacher, int]] = OrderedDict()
        self.num_hits = 0
        self.num_loads = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the teachers held, the one used last at the end."""
        return tuple(self._held)

    def get(self, name: str, load: Callable[[], Teacher]) -> Teacher:
        """Return a teacher, loaded if it is not there; others make room. The last one used always stays."""
        if name in self._held:
            self.num_hits += 1
            self._held.move_to_end(name)
            return self._held[name][0]
        self.num_loads += 1
        teacher = load()
        self._held[name] = teacher, num_bytes(teacher)
        total = sum(size for _, size in self._held.values())
        while total > self._max_bytes and len(self._held) > 1:
            _, (_, size) = self._held.popitem(last=False)
            total -= size
        return teacher

    def take_counts(self) -> tuple[int, int]:
        """Return the hits and the loads since this was last asked."""
        counts = self.num_hits, self.num_loads
        self.num_hits = self.num_loads = 0
        return counts

    def keep(self, names: Container[str]) -> None:
        """Let go of all teachers but those of `names`."""
        for name in self.names:
            if name not in names:
                del self._held[name]


def num_bytes(teacher: Teacher) -> int:
    """Return the bytes of a teacher's parameters and buffers."""
    tensors = [*teacher.network.parameters(), *teacher.network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
