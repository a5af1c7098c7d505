"""The range of values that an image folder uses: a set that would come out nearly black is refused."""

from collections.abc import Sequence
from pathlib import Path

from prism_ray.config import DataConfig
from prism_ray.data.decode import Seen, holds_sixteen_bits_of_colour, look_at_pixels
from prism_ray.errors import DataError
from prism_ray.seeds import derive_seed

_NUM_IMAGES = 64  # that are looked at
_SMALLEST_SHARE = 0.25  # of the range; 14 bits in files of 16 use less


def check_range(config: DataConfig, root: Path, by_class: Sequence[Sequence[tuple[str, int]]]) -> list[str]:
    """Raise DataError if a sample of the images uses a fraction of the range of its format.

    `by_class` has path and bits per channel of each image of each class. Returns notes for the user.
    """
    transparent: list[str] = []
    num_seen = 0
    for depth in (8, 16):
        found = [[path for path, bits in files if bits == depth] for files in by_class]
        sample = _spread_sample([files for files in found if files])
        seen: list[Seen] = []
        for path in sample:
            try:
                seen.append(look_at_pixels(root / path, config.max_megapixels))
            except Exception:  # a damaged image is named when it is read
                continue
            transparent += [path] * seen[-1].is_transparent
        num_seen += len(seen)
        if not seen or config.full_scale is not None:
            continue  # with full_scale each image is checked as it is read
        largest, full = max(each.largest for each in seen), seen[0].full
        if largest >= _SMALLEST_SHARE * full:
            continue
        used = (
            f"data.path: of {len(seen)} images with {depth} bits per channel that were looked at, the "
            f"largest value is {largest:,} of {full:,}, so they would come out nearly black"
        )
        if depth == 8 and holds_sixteen_bits_of_colour(root / sample[0], config.max_megapixels):
            raise DataError(
                f"{used}. Of 16-bit colours only the upper 8 bits are read; save them with 8 bits"
            )
        likely = 2 ** max(1, int(largest).bit_length()) - 1
        raise DataError(
            f"{used}; set data.full_scale to the value that should become white, for example {likely}, or to "
            f"{full} to take them as they are"
        )
    if not transparent:
        return []
    return [
        f"{len(transparent)} of {num_seen} images that were looked at have transparent pixels, whose hidden "
        f"colours are taken: {', '.join(transparent[:3])}"
    ]


def _spread_sample(by_class: list[list[str]]) -> list[str]:
    """Return some files, of as many classes as possible, chosen by hashing."""
    per_class = -(-_NUM_IMAGES // max(1, len(by_class)))
    ranked = [sorted(files, key=lambda path: derive_seed("range", path))[:per_class] for files in by_class]
    step = -(-len(ranked) // _NUM_IMAGES) or 1
    return [path for files in ranked[::step] for path in files][:_NUM_IMAGES]
