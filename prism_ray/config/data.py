"""`data`: where the real images come from and at which size they are used."""

from typing import Literal, Self

from pydantic import Field, model_validator

from prism_ray.config.base import PositiveInt, Section


class DataConfig(Section):
    """The real images."""

    source: Literal["digits", "fashion-mnist", "image-folder"] = Field(
        description="digits: the 1,797 images inside scikit-learn; fashion-mnist: idx .gz files; "
        "image-folder: one folder of images per class."
    )
    path: str | None = Field(
        default=None,
        description="Folder of the files (fashion-mnist: the four idx .gz files; image-folder: "
        "the class folders of the training images). Every actor's node must see it.",
    )
    test_path: str | None = Field(
        default=None,
        description="image-folder: class folders of the test images. Without it test_fraction of "
        "each class is held out.",
    )
    download: bool = Field(
        default=False,
        description="fashion-mnist: let torchvision download missing files into path.",
    )
    image_size: PositiveInt = Field(
        description="Height and width in pixels of the images that networks see and that are made."
    )
    num_classes: PositiveInt | None = Field(
        default=None,
        description="If given, the data must have exactly this many classes.",
    )
    test_fraction: float = Field(
        default=0.2,
        gt=0.0,
        lt=1.0,
        description="Share of each class held out for the test when the source has no test split.",
    )

    validation_fraction: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Share of each class's training images kept back for validation: no network is trained "
        "on them, no image starts from them. For tuning; see evaluate.split.",
    )

    @model_validator(mode="after")
    def _check_paths(self) -> Self:
        if self.source == "image-folder" and self.path is None:
            raise ValueError("source image-folder needs data.path, the folder of class folders")
        if self.source == "fashion-mnist" and self.path is None:
            raise ValueError(
                "source fashion-mnist needs data.path, the folder of the four idx .gz files "
                "(with data.download true they are put there)"
            )
        for key, path in (("path", self.path), ("test_path", self.test_path)):
            if path is not None and "://" in path:
                raise ValueError(f"data.{key} = {path!r}: a folder that every node sees, not a URL")
        if self.test_path is not None and self.test_path == self.path:
            raise ValueError("data.test_path is data.path: students would be tested on training images")
        if self.source == "digits" and self.path is not None:
            raise ValueError("source digits is embedded and takes no data.path")
        if self.test_path is not None and self.source != "image-folder":
            raise ValueError(f"data.test_path is for source image-folder, not {self.source}")
        if self.download and self.source != "fashion-mnist":
            raise ValueError(f"data.download is for source fashion-mnist, not {self.source}")
        return self
