"""Two dimensions for the features of images: UMAP, or principal components where UMAP cannot be had."""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

_MIN_IMAGES = 12  # of UMAP: fewer points have no neighbourhoods
_NEIGHBOURS = 15  # of UMAP, as its authors set it

Points = npt.NDArray[np.float64]  # N, 2


@dataclass(frozen=True)
class Projection:
    """Points in the plane, and how they were found."""

    points: Points
    kind: Literal["UMAP", "PCA"]
    reason: str  # why it is not UMAP; "" if it is


def project(features: npt.NDArray[np.float32]) -> Projection:
    """Return features (N, F) as points (N, 2), all in one projection; the same features give the same points.

    UMAP measures distances by the cosine, as the similarity within classes does. Source: arXiv 1802.03426.
    """
    if len(features) < _MIN_IMAGES:
        few = f"{len(features)} images are too few for UMAP"
        return Projection(principal_components(features), "PCA", few)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from umap import UMAP
    except ImportError:
        reason = "umap-learn is not installed: pip install 'prism-ray[report]'"
        return Projection(principal_components(features), "PCA", reason)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one thread, because of the seed; duplicates
        neighbours = min(_NEIGHBOURS, len(features) - 1)
        umap = UMAP(n_neighbors=neighbours, metric="cosine", random_state=0, n_jobs=1, init="pca")
        points = np.asarray(umap.fit_transform(features), np.float64)
    if not np.isfinite(points).all():
        return Projection(principal_components(features), "PCA", "UMAP found no projection")
    return Projection(points, "UMAP", "")


def principal_components(features: npt.NDArray[np.float32]) -> Points:
    """Return the first two principal components of the normalised features (N, F); 0 where there is none."""
    values = features.astype(np.float64)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    values = np.divide(values, norms, out=np.zeros_like(values), where=norms > 0)
    values -= values.mean(axis=0)
    u, s, _ = np.linalg.svd(values, full_matrices=False)
    points = np.zeros((len(values), 2))
    number = min(2, len(s))
    points[:, :number] = u[:, :number] * s[:number]
    return points
