"""Checkpoints in memory, for the tests of what can be gone on with."""

from collections.abc import Callable, Mapping


class Kept:
    """Due every `every` times it is asked; the `interrupt_at`-th save cuts the work off."""

    def __init__(
        self,
        interrupt_at: int | None = None,
        data: bytes | None = None,
        *,
        every: int = 1,
        identity: str = "some settings",
    ) -> None:
        self.identity = identity
        self.data = data
        self.num_saved = 0
        self._interrupt_at = interrupt_at
        self._every = every
        self._num_asked = 0
        self.reports: list[tuple[int, int, dict[str, float]]] = []

    def report(self, num_done: int, total: int, values: Callable[[], Mapping[str, float]]) -> None:
        self.reports.append((num_done, total, dict(values())))

    def due(self) -> bool:
        self._num_asked += 1
        return self._num_asked % self._every == 0

    def save(self, data: bytes) -> None:
        self.data = data
        self.num_saved += 1
        if self.num_saved == self._interrupt_at:
            raise KeyboardInterrupt

    def load(self, max_bytes: int) -> bytes | None:
        assert self.data is None or len(self.data) <= max_bytes
        return self.data
