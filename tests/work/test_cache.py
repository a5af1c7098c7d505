"""The teachers that an actor keeps: bounded, those used last, and counted."""

import torch
from torch import nn

from prism_ray.teachers.teacher import Preprocessing, Teacher
from prism_ray.work.cache import TeacherCache, num_bytes

SIZE = 4 * (10 * 10 + 10)


def teacher(name: str, features: int = 10) -> Teacher:
    preprocessing = Preprocessing((0.5,) * 3, (0.5,) * 3, 32)
    return Teacher(name, nn.Linear(features, features), preprocessing)


def get(cache: TeacherCache, *names: str) -> None:
    for name in names:
        assert cache.get(name, lambda name=name: teacher(name)).name == name  # type: ignore[misc]


def test_bytes_are_those_of_parameters_and_buffers() -> None:
    """Catches running statistics, or the width of a number, left out of the reckoning."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2))
    expected = 4 * (18 + 2 + 2 + 2 + 2) + 8
    assert num_bytes(Teacher("a", network, teacher("a").preprocessing)) == expected
    half = Teacher("a", nn.Linear(3, 3, dtype=torch.float16), teacher("a").preprocessing)
    assert num_bytes(half) == 2 * 12


def test_those_used_last_stay() -> None:
    """Catches a cache that forgets the primary, which every batch uses, because it was loaded first."""
    cache = TeacherCache(3 * SIZE)
    get(cache, "primary", "b", "c", "primary", "d", "primary", "e")
    assert cache.names == ("d", "primary", "e")
    assert (cache.num_hits, cache.num_loads) == (2, 5)


def test_a_teacher_is_loaded_once_while_it_stays() -> None:
    """Catches teachers loaded again for every batch, as the public code does."""
    cache = TeacherCache(3 * SIZE)
    first = cache.get("a", lambda: teacher("a"))
    assert cache.get("a", lambda: teacher("a")) is first


def test_one_that_is_larger_than_the_limit_is_held_alone() -> None:
    """Catches a limit below one network's size that makes it load for every step, or fail."""
    cache = TeacherCache(SIZE // 2)
    get(cache, "a", "a", "b")
    assert cache.names == ("b",)
    assert (cache.num_hits, cache.num_loads) == (1, 2)


def test_counts_are_those_since_the_last_time() -> None:
    """Catches lookups that are reported twice, once with each unit that comes after them."""
    cache = TeacherCache(3 * SIZE)
    get(cache, "a", "a", "b")
    assert cache.take_counts() == (1, 2)
    get(cache, "b")
    assert cache.take_counts() == (1, 0)


def test_what_is_not_kept_makes_room() -> None:
    """Catches teachers that stay in memory when a batch needs it."""
    cache = TeacherCache(3 * SIZE)
    get(cache, "a", "b", "c")
    cache.keep({"b", "d"})
    assert cache.names == ("b",)
