"""The base class of all config sections: frozen, no unknown keys. Also the number types that they share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
# Images are split into nearly equal batches. From 3 on, none has a single image, which BatchNorm refuses.
BatchSize = Annotated[int, Field(ge=3)]
CropScale = tuple[
    Annotated[float, Field(gt=0.0, le=1.0)],
    Annotated[float, Field(gt=0.0, le=1.0)],
]


class Section(BaseModel):
    """A frozen part of the config that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def check_crop_scale(scale: CropScale) -> CropScale:
    """Return `scale` if its order is (smallest, largest); raise ValueError otherwise."""
    if scale[0] > scale[1]:
        raise ValueError(
            f"{list(scale)}: the smallest share of the area comes first; write {[scale[1], scale[0]]}"
        )
    return scale
