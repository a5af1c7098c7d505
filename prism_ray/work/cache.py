"""The teachers that one device has loaded: those used last, as many as a limit in bytes allows."""

from collections.abc import Callable, Container

from prism_ray.teachers.teacher import Teacher


class TeacherCache:
    """Loaded teachers by name, with counts of hits and loads; of each name at most one."""

    def __init__(self, max_bytes: float) -> None:
        self._max_bytes = max_bytes
        self._loaded: dict[str, Teacher] = {}  # the one used last at the end
        self._versions: dict[str, str] = {}  # of the loaded ones
        self.num_hits = self.num_loads = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the loaded teachers, the one used last at the end."""
        return tuple(self._loaded)

    def get(self, name: str, load: Callable[[], Teacher], version: str = "") -> Teacher:
        """Return a teacher; load it if needed, and remove those not used for longest beyond the limit.

        Another run may have a teacher of this name with other weights: `version` tells them apart.
        """
        if name in self._loaded and self._versions[name] == version:
            self.num_hits += 1
            teacher = self._loaded[name] = self._loaded.pop(name)
            return teacher
        self.num_loads += 1
        self._loaded.pop(name, None)
        teacher = self._loaded[name] = load()
        self._versions[name] = version
        while len(self._loaded) > 1 and sum(map(num_bytes, self._loaded.values())) > self._max_bytes:
            del self._loaded[self.names[0]]
        return teacher

    def take_counts(self) -> tuple[int, int]:
        """Return the numbers of hits and loads since the last call."""
        counts = self.num_hits, self.num_loads
        self.num_hits = self.num_loads = 0
        return counts

    def keep(self, names: Container[str]) -> None:
        """Remove all teachers except those of `names`."""
        self._loaded = {name: teacher for name, teacher in self._loaded.items() if name in names}


def num_bytes(teacher: Teacher) -> int:
    """Return the bytes of a teacher's parameters and buffers."""
    tensors = [*teacher.network.parameters(), *teacher.network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
