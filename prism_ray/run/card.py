"""README.md of an exported dataset: metadata for the Hub, and how images and labels are to be used."""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pyarrow as pa
import yaml
from pydantic import ConfigDict, Field

from prism_ray.encodings import find_encoding
from prism_ray.run.plan_file import Run
from prism_ray.store.records import FINITE

_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M")  # of a dataset, in the words of Hugging Face
_Positive = Annotated[float, Field(gt=0.0)]


@dataclass(frozen=True)
class StudentInput:
    """The input of students: RGB in [0, 1], minus mean, over std, at `size` pixels."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    mean: tuple[float, float, float]
    std: tuple[_Positive, _Positive, _Positive]
    size: int


def write_card(
    run: Run,
    image_set: str,
    num_images: int,
    schemas: Sequence[pa.Schema],
    student_input: StudentInput | None,
) -> str:
    """Return the card of an image set; `schemas` are those of its images and, if exported, of its labels.

    `student_input` is given with labels.
    """
    config, data = run.config.image_sets[image_set], run.config.data
    values = _metadata(run, image_set, num_images, schemas)
    metadata = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=200)
    if student_input is not None:
        about = _labels(run, student_input)
    elif run.config.relabel.mode == "online":
        about = "The run stored no soft labels (`relabel.mode: online`): its students asked the teachers.\n"
    else:
        about = "The soft labels were left out of this export.\n"
    return f"""---
{metadata}---

# {num_images} images distilled from {data.source}

Made by prism-ray: method `{config.method}`, IPC {config.ipc}, {run.facts.num_classes} classes,
{data.image_size} x {data.image_size} pixels, seed {run.config.seed}. The images are meant for training with
soft labels; `label` is the class that each image was made for.

| column | contents |
|---|---|
| `image` | PNG |
| `label` | class |
| `ipc_index` | index of the image in its class |
| `batch`, `seed` | the batch that the image was made in, and the seed of the batch |
| `teachers` | the teachers that supervised the batch |
| `num_iterations` | iterations of the image |
| `loss_ce`, `loss_bn` | losses of the batch at its last iteration |

## Soft labels

{about}"""


def _metadata(run: Run, image_set: str, num_images: int, schemas: Sequence[pa.Schema]) -> dict[str, Any]:
    names = ("default", "labels")[: len(schemas)]
    folders = ("data", "labels")
    return {
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation", run.config.image_sets[image_set].method],
        "size_categories": [_SIZES[bisect_right((10**3, 10**4, 10**5), num_images)]],
        "configs": [
            {
                "config_name": name,
                "data_files": [{"split": "train", "path": f"{folder}/train-*.parquet"}],
                **({"default": True} if name == "default" else {}),
            }
            for name, folder in zip(names, folders, strict=False)
        ],
        "dataset_info": [
            {"config_name": name, "features": _features(schema)}
            for name, schema in zip(names, schemas, strict=True)
        ],
    }


def _features(schema: pa.Schema) -> list[dict[str, Any]]:
    """Return the features of a file as a card has them."""
    described = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    found = []
    for name, feature in described.items():
        kind = feature["_type"]
        if kind == "ClassLabel":
            names = {str(label): _plain(each) for label, each in enumerate(feature["names"])}
            found.append({"name": name, "dtype": {"class_label": {"names": names}}})
        elif kind == "List":
            length = {"length": feature["length"]} if "length" in feature else {}
            found.append({"name": name, "list": feature["feature"]["dtype"], **length})
        else:
            found.append({"name": name, "dtype": "image" if kind == "Image" else feature["dtype"]})
    return found


def _plain(name: str) -> str:
    """Return a class name without what UTF-8 cannot hold."""
    return name.encode(errors="backslashreplace").decode()


def _labels(run: Run, student_input: StudentInput) -> str:
    """Return the part of the card that says how the labels are to be used."""
    relabel, size = run.config.relabel, run.config.data.image_size
    evaluate = next(iter(run.config.evaluations.values()))
    recipe = find_encoding(relabel.encoding).recipe(run.facts.num_classes)
    if recipe is None:
        recipe = f"# columns of the encoding {relabel.encoding!r}: the package that made them decodes them"
    augmented = (
        "after RandAugment, see docs/library.md of prism-ray" if relabel.rand_augment else "augment_seed is 0"
    )
    settings = {
        key: value
        for key, value in evaluate.model_dump(mode="json").items()
        if key not in ("num_students", "image_sets", "test_every") and value is not None
    }
    num_epochs = relabel.num_label_epochs
    return f"""A soft label is what an ensemble of teachers says of one *view*: one image in one epoch,
cropped, mirrored and mixed with a partner (CutMix). `datasets.load_dataset(..., "labels")` has a row for each
image and each of {num_epochs} epochs; the key is (`epoch`, `label`, `ipc_index`). A label belongs to its
view: show the image exactly so, then use the logits, which are from before any softmax. Encoding:
`{relabel.encoding}`.

```python
import numpy as np
import torch
from torchvision.transforms.v2 import functional as TF

MEAN = {list(student_input.mean)}
STD = {list(student_input.std)}
INPUT_SIZE = {student_input.size}


{recipe}


def cropped(image, view):  # image: uint8 (channels, {size}, {size}); {augmented}
    size, pixels = image.shape[-1], image / 255
    if view["swap_columns"]:
        pixels = pixels.roll(-(size // 2), 2)
    if view["swap_rows"]:
        pixels = pixels.roll(-(size // 2), 1)
    crop = [view[f"crop_{{name}}"] for name in ("top", "left", "height", "width")]
    pixels = TF.resized_crop(pixels, *crop, [size, size], antialias=True)
    return pixels.flip(2) if view["flip"] else pixels


def shown(image, view, partner, partner_view):
    # The partner is image (partner_label, partner_ipc_index), and partner_view ITS row of the same epoch.
    pixels, other = cropped(image, view), cropped(partner, partner_view)
    top, left = view["box_top"], view["box_left"]
    rows, columns = slice(top, top + view["box_height"]), slice(left, left + view["box_width"])
    share = view.get("own_share", 1.0)
    pixels = share * pixels + (1 - share) * other
    pixels[:, rows, columns] = other[:, rows, columns]
    pixels = TF.resize(pixels.expand(3, -1, -1), [INPUT_SIZE, INPUT_SIZE], antialias=True)
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
```

Students of the run trained for {relabel.epochs} epochs, in each with all images once, with these settings
(docs/library.md of prism-ray has the formulas, and how the real test images are read):

```json
{json.dumps(settings, indent=1)}
```
"""
