"""`data`: the source and the size of the real images."""

from typing import Literal, Self

from pydantic import Field, model_validator

from prism_ray.config.base import PositiveInt, Section
from prism_ray.locations import is_url


class DataConfig(Section):
    """The real images."""

    source: Literal["digits", "fashion-mnist", "idx", "image-folder"]
    """digits: the 1,797 images that scikit-learn contains. fashion-mnist: four idx .gz files. idx: any
    other set in these four files, such as MNIST. image-folder: one folder of images per class."""
    path: str | None = None
    """Folder of the data. fashion-mnist, idx: the four .gz files train-images-idx3-ubyte.gz,
    train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz; idx: also classes.txt
    with a line for each class, if classes have names. image-folder: the class folders of the training images.
    It must exist under this path on the node of every actor."""
    test_path: str | None = None
    """For image-folder: the class folders of the test images. Without it, test_fraction of each class is held
    out."""
    classes: tuple[str, ...] | None = None
    """For image-folder: the names of all class folders in the order of the labels, for example that of ready
    weights. Without it the folders are in alphabetical order; if all their names are integers, in the order
    of the numbers."""
    allow_left_out: bool = False
    """For image-folder: begin although some images cannot be read and are left out. Without it such images
    are an error."""
    hashed: Literal["sample", "all"] = "sample"
    """For image-folder: the files whose whole content is hashed when a run begins. Of all others the first
    16 KiB are. sample: all files if they have 1 GiB at most, else eight of each class."""
    max_megapixels: float = Field(default=180.0, gt=0.0, le=1e6)
    """For image-folder: the largest image that is read, in millions of pixels. It protects the memory from
    damaged or hostile files."""
    full_scale: PositiveInt | None = None
    """For image-folder: the pixel value that becomes white, for example 1023 for data of 10 bits in 16-bit
    files. It holds for files with room for that value. By default the largest value of the file's format:
    255 or 65535."""
    download: bool = False
    """For fashion-mnist: let torchvision download missing files into path."""
    image_size: PositiveInt
    """Height and width of the images that networks see and of the distilled images, in pixels."""
    num_classes: PositiveInt | None = None
    """If set, the data must have exactly this number of classes."""
    test_fraction: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Share of each class that is held out for the test if the source has no test split."""

    validation_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of each class's training images that is held out for validation, for example 0.1. No network is
    trained on them and no image starts from them. For tuning, see evaluate.split."""

    @model_validator(mode="after")
    def _check_paths(self) -> Self:
        if self.source == "image-folder" and self.path is None:
            raise ValueError("source = 'image-folder' needs a folder of class folders; set data.path to it")
        if self.source == "idx" and self.path is None:
            raise ValueError("source = 'idx' needs the folder of the four idx .gz files; set data.path to it")
        if self.source == "fashion-mnist" and self.path is None:
            raise ValueError(
                "source = 'fashion-mnist' needs the folder of the four idx .gz files; set data.path to it "
                "(with data.download = true the files are downloaded into it)"
            )
        for key in ("classes", "allow_left_out", "hashed", "max_megapixels", "full_scale"):
            value = getattr(self, key)
            if value != type(self).model_fields[key].default and self.source != "image-folder":
                raise ValueError(
                    f"data.{key} = {value!r} needs source = 'image-folder', not {self.source!r}; leave it out"
                )
        if self.classes is not None:
            twice = next((name for name in self.classes if self.classes.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"data.classes names {twice!r} twice; name each class folder once")
        for key, path in (("path", self.path), ("test_path", self.test_path)):
            if path is not None and is_url(path):
                raise ValueError(
                    f"data.{key} = {path!r} is a URL; set it to a folder that every node can read "
                    "(a folder of that name is written with ./ before it)"
                )
        if self.test_path is not None and self.test_path == self.path:
            raise ValueError(
                f"data.test_path = {self.test_path!r} is also data.path, so students would be tested on "
                "training images; give the test images a folder of their own, or leave test_path out"
            )
        if self.source == "digits" and self.path is not None:
            raise ValueError(f"data.path = {self.path!r}: source = 'digits' reads no files; leave path out")
        if self.test_path is not None and self.source != "image-folder":
            raise ValueError(
                f"data.test_path = {self.test_path!r} needs source = 'image-folder', not {self.source!r}; "
                "leave it out"
            )
        if self.download and self.source != "fashion-mnist":
            raise ValueError(
                f"data.download = true needs source = 'fashion-mnist', not {self.source!r}; leave it out"
            )
        return self
