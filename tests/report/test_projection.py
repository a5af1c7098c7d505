"""Projections of features."""

import sys

import numpy as np
import pytest

from prism_ray.report.projection import principal_components, project


def two_groups(number: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(number, 8)).astype(np.float32) * 0.05
    features[: number // 2, 0] += 1.0
    features[number // 2 :, 1] += 1.0
    return features


def apart(points: np.ndarray) -> bool:
    half = len(points) // 2
    first, second = points[:half].mean(axis=0), points[half:].mean(axis=0)
    spread = max(points[:half].std(), points[half:].std())
    return bool(np.linalg.norm(first - second) > spread)


def test_umap_keeps_groups_and_is_the_same_twice() -> None:
    """Catches a projection without a seed, and images in another order than their features."""
    pytest.importorskip("umap")
    found = project(two_groups(40))
    assert found.kind == "UMAP"
    assert apart(found.points)
    np.testing.assert_array_equal(found.points, project(two_groups(40)).points)


def test_without_umap_there_are_principal_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a report that fails without umap-learn, or does not say that it is missing."""
    monkeypatch.setitem(sys.modules, "umap", None)
    found = project(two_groups(40))
    assert (found.kind, "umap-learn is not installed" in found.reason) == ("PCA", True)
    assert apart(found.points)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_few_images_have_a_projection(number: int) -> None:
    """Catches a run of one class with one image that has no page."""
    found = project(two_groups(number))
    assert found.kind == "PCA"
    assert found.points.shape == (number, 2)
    assert np.isfinite(found.points).all()


def test_dead_features_are_finite() -> None:
    """Catches NaN for images without features."""
    assert not principal_components(np.zeros((3, 4), np.float32)).any()
