"""The scores of DD-Ranking, and the error that a number of test images allows. Pure arithmetic.

Source: DD-Ranking, arXiv 2505.13300. Accuracies are shares in [0, 1]; scores go from 0 to 100, higher is
better, and a set that changes nothing has `NEUTRAL`, 26.9.
"""

import math

_WEIGHT = 0.5  # of both parts of a score, as published


def hard_label_recovery(full_data: float, image_set: float) -> float:
    """Return HLR, in [-1, 1]: what hard labels on the image set lose against hard labels on all real images.

    >>> round(hard_label_recovery(full_data=0.98, image_set=0.30), 2)
    0.68
    """
    return full_data - image_set


def improvement_over_random(image_set: float, random_real: float) -> float:
    """Return IOR, in [-1, 1]: what the set gains over as many random real images under the same protocol."""
    return image_set - random_real


def label_robust_score(ior: float, hlr: float) -> float:
    """Return LRS = N(w IOR - (1 - w) HLR) with w = 0.5.

    A set whose gain is in its soft labels alone has the same HLR as random real images. N is `normalised`.
    """
    return normalised(_WEIGHT * ior - (1.0 - _WEIGHT) * hlr)


def augmentation_robust_score(augmented: float, whole: float) -> float:
    """Return ARS = N(g A + (1 - g) B) with g = 0.5.

    A is the gain over random real images on augmented views, B the gain on whole images. N is `normalised`.
    """
    return normalised(_WEIGHT * augmented + (1.0 - _WEIGHT) * whole)


def normalised(value: float) -> float:
    """Return N(x) = 100 (e^x - e^-1) / (e - e^-1): from 0 at -1 to 100 at 1."""
    lowest = math.exp(-1.0)
    return 100.0 * (math.exp(value) - lowest) / (math.e - lowest)


NEUTRAL = normalised(0.0)


def error_of_test_images(accuracy: float, num_images: int) -> float:
    """Return the standard error sqrt(p (1 - p) / n) of an accuracy p on n test images, as a share.

    So much would the accuracy of one network vary over other test images (binomial).

    >>> f"{100 * error_of_test_images(0.5, 180):.1f} points"
    '3.7 points'
    """
    return math.sqrt(accuracy * (1.0 - accuracy) / num_images)
