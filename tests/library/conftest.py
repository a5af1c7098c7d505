"""What tests of the library share: one finished store, in which tests write nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.worked import work


@pytest.fixture(autouse=True, scope="session")
def _one_thread_for_stores() -> Iterator[None]:
    """Bytes on the CPU depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def worked(tmp_path_factory: pytest.TempPathFactory, _one_thread_for_stores: None) -> Path:
    """A store with the sets `distilled` and `random-real`, labels of 6 epochs and a student each."""
    store = tmp_path_factory.mktemp("worked") / "run"
    work(store)
    return store
