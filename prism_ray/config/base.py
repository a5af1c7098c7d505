"""The base class of all config sections: frozen, no unknown keys. Also the number types that they share."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Precision = Literal["fp32", "tf32", "bf16"]  # of networks' passes
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(gt=0.0, le=1.0)]
# Images are split into nearly equal batches. From 3 on, none has a single image, which BatchNorm refuses.
BatchSize = Annotated[int, Field(ge=3)]


def check_crop_scale(scale: tuple[float, float]) -> tuple[float, float]:
    """Return `scale` if its order is (smallest, largest); raise ValueError otherwise."""
    if scale[0] > scale[1]:
        raise ValueError(
            f"{list(scale)}: the smallest share of the area comes first; write {[scale[1], scale[0]]}"
        )
    return scale


CropScale = Annotated[tuple[_Share, _Share], AfterValidator(check_crop_scale)]


class Section(BaseModel):
    """A frozen part of the config that refuses keys it does not know. The text below a key describes it."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True
    )
