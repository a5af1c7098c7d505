"""`relabel`, `evaluate` and `analyze`: soft labels, training of students, measures of the images."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from prism_ray.config.base import (
    BatchSize,
    CropScale,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Precision,
    Section,
)
from prism_ray.config.networks import NetworkConfig
from prism_ray.encodings import find_encoding
from prism_ray.methods.protocols import PROTOCOLS

Control = Literal["hard-labels", "no-augmentation", "full-data"]

_NUM_TESTS = 5  # of a student, if test_every does not say otherwise


class RelabelConfig(Section):
    """Soft labels, FKD style: logits of a teacher ensemble on one stored view per image and epoch.

    The evaluation protocol gives the defaults.
    """

    mode: Literal["stored", "online"] = "stored"
    """stored: the stage relabel makes the labels and stores them. online: nothing is stored; each student
    has the teachers beside it and asks them for the same labels, which takes their time for every student."""
    teachers: Literal["pool", "primary"] | tuple[str, ...] = "pool"
    """The ensemble. pool: all teachers except the verifiers. primary: the primary only. Or a list of names,
    for example [resnet, densenet]."""
    ensemble: Literal["norm-balanced", "mean", "prior", "majority"] = "norm-balanced"
    """mean: the mean of the teachers' logits. norm-balanced: the same, after each teacher's logits are scaled
    to the mean norm of all teachers. prior: the mean weighted by softmax(prior / prior_temperature) over the
    teachers. majority: for each view the mean of the teachers that name its most-named class."""
    priors: dict[str, NonNegativeFloat] = Field(default={})
    """For ensemble prior: prior accuracy of a teacher in percent, by name, for example {resnet: 69.8}.
    Default: its accuracy on the validation images (data.validation_fraction)."""
    prior_temperature: PositiveFloat = 5.0
    """For ensemble prior: softmax temperature, in accuracy points."""
    teacher_batch_norm: Literal["running", "batch"] = "running"
    """running: BatchNorm uses the running statistics of the teachers. batch: it uses the statistics of the
    views in the batch."""
    teacher_batch_size: BatchSize = 256
    """Views per forward pass of a teacher; a small group passes several epochs at once. It changes the labels
    if teacher_batch_norm is batch."""
    precision: Precision = "fp32"
    """Precision of the teachers' passes, as `recover.precision`. bf16, the fastest, rounds logits to about
    three digits."""
    epochs: PositiveInt = 300
    """Number of epochs that a student trains for, with one view per image and epoch."""
    prune_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the epochs for which no labels are made, for example 0.9. A student then goes several times
    through the labels of the others, each time in another order."""
    crop_scale: CropScale = (0.25, 1.0)
    """Range of a crop's share of the image area, for example [0.25, 1.0]."""
    flip: bool = True
    """Mirror a random half of the views."""
    cutmix_alpha: NonNegativeFloat = 1.0
    """CutMix draws its mixing share from Beta(alpha, alpha). 0: no CutMix."""
    mixup_alpha: NonNegativeFloat = 0.0
    """MixUp draws the share of a view's own image from Beta(alpha, alpha), for example 0.8; the rest is its
    partner. 0: no MixUp. If cutmix_alpha is above 0 too, a random half of the views get MixUp, the others
    CutMix."""
    patch_shuffle: bool = False
    """Swap the left and right halves of a view, and the top and bottom ones, each at random."""
    rand_augment: bool = False
    """Apply timm's RandAugment (m6, n2, mstd1.0) to the image before the crop."""
    images_per_group: PositiveInt = 1000
    """Approximate number of images in a label group, which consists of whole recover batches. CutMix partners
    and the ensemble's norms come from within a group."""
    epochs_per_unit: PositiveInt = 100
    """Number of epochs that one relabel unit labels for its group."""

    encoding: str = "fp16"
    """Encoding of the stored logits. fp16: every logit, as float16. int8 or int4: every logit, in 8 or 4 bits
    with a scale per view. top-K, for example top-100: the K largest of a view; top-100-int8: these in 8 bits.
    docs/labels.md has the sizes and what they cost in accuracy."""

    view_parameters: Literal["stored", "drawn"] = "stored"
    """stored: each label has the parameters of its view (crop, flip, partner, ...), 10 to 17 bytes, so that
    any program can read them. drawn: one bit; prism-ray draws the views again from the seed, and its exports
    write them out."""

    @property
    def stores_views(self) -> bool:
        """Whether label files have the parameters of the views."""
        return self.view_parameters == "stored"

    @property
    def num_label_epochs(self) -> int:
        """Number of epochs that have labels: at least one."""
        return max(1, round(self.epochs * (1.0 - self.prune_ratio)))

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, name: str) -> str:
        find_encoding(name)
        return name

    @model_validator(mode="after")
    def _check_teachers(self) -> Self:
        if self.teachers == ():
            raise ValueError("teachers = [] names no teacher; name at least one, or set pool or primary")
        return self

    @model_validator(mode="after")
    def _check_mode(self) -> Self:
        of_files = {"encoding": "fp16", "prune_ratio": 0.0, "view_parameters": "stored"}
        given = [
            f"{key} = {getattr(self, key)}" for key, usual in of_files.items() if getattr(self, key) != usual
        ]
        if self.mode == "online" and given:
            which, it = ("has", "it") if len(given) == 1 else ("have", "them")
            raise ValueError(
                f"mode = online stores no labels, so {' and '.join(given)} {which} no effect; leave {it} "
                "out, or set mode to stored"
            )
        return self


class EvaluateConfig(Section):
    """Post-evaluation: a new student is trained on the images and labels and tested on real images.

    The protocol gives the defaults.
    """

    protocol: str = "prism"
    """Evaluation protocol, which gives the defaults of `evaluate` and `relabel`. All evaluations of a run
    share one. `prism-ray methods` lists them."""
    student: NetworkConfig
    """Architecture of the student."""
    num_students: PositiveInt = 3
    """Number of students trained per image set."""
    image_sets: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of the image sets to evaluate. Default: all."""
    controls: tuple[Control, ...] | None = None
    """Further evaluations with one thing changed, which tell what made a gain. hard-labels: the classes in
    place of the soft labels. no-augmentation: augment = false. full-data: train_on = full-data. Default:
    hard-labels, and for a run that was begun with others, those. docs/scores.md explains them."""
    train_on: Literal["image-sets", "full-data"] = "image-sets"
    """image-sets: the images of each set. full-data: all real training images, once for all image sets, with
    hard labels: what the same training makes of everything."""
    full_data_epochs: PositiveInt | None = None
    """Epochs of the students on the full data, for example 30. Default: relabel.epochs."""
    augment: bool = True
    """false: students see every image whole and unchanged in each epoch, without the crops, flips and mixing
    of the views. Their soft labels are what the teachers say of the whole images."""
    split: Literal["test", "validation"] = "test"
    """Real images that students are tested on. Use validation for tuning."""
    labels: Literal["soft", "hard"] = "soft"
    """soft: the stored logits. hard: cross-entropy with the classes of the images in a view, weighted by
    their shares of it."""
    loss: Literal["mse", "kl"] = "mse"
    """Loss between the student's logits and the soft labels. mse: mean squared error. kl: Kullback-Leibler
    divergence at `temperature`."""
    temperature: PositiveFloat = 20.0
    """Softmax temperature of loss kl."""
    temperature_schedule: Literal["constant", "step", "cosine"] = "constant"
    """Temperature over the epochs, from `temperature` on. step: times `temperature_decay` after every
    `temperature_step` epochs, but not below `temperature_min`. cosine: half a cosine to `temperature_min`."""
    temperature_step: PositiveInt = 30
    """Epochs between two steps of temperature_schedule step."""
    temperature_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    """Factor of each step of temperature_schedule step."""
    temperature_min: PositiveFloat = 2.0
    """Lowest temperature of a schedule."""
    student_temperature_ratio: PositiveFloat = 1.0
    """Temperature of the student's logits divided by that of the soft labels."""
    marginal: Literal["smooth", "renormalise"] = "smooth"
    """Classes that labels of encoding top-K leave out. smooth: they share the remaining mass evenly (MS-K).
    renormalise: they have no mass (MR-K); this needs loss kl."""
    ce_weight: NonNegativeFloat = 0.1
    """Weight of the cross-entropy with the image's class, which is added to the loss. In a view of MixUp its
    partner's class has its share."""
    batch_size: BatchSize = 50
    """Images per training step."""
    learning_rate: PositiveFloat = 1e-3
    """Initial learning rate of AdamW."""
    weight_decay: NonNegativeFloat = 0.01
    """Weight decay of AdamW, for parameters called weight with 2 or more dimensions."""
    cosine_stretch: PositiveFloat = 2.5
    """The learning rate in epoch e of E has the factor 0.5 (1 + cos(pi e / (stretch E))). It ends at 0 for 1
    and at half for 2."""
    linear_tail: bool = True
    """After epoch 5E/6 the factor is (1 - e/E) times its value at 5E/6. It drops in one step there."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Decay of a moving average of the student's weights, for example 0.99. The average is tested. 0: the
    last weights are tested."""

    precision: Precision = "fp32"
    """Precision of the student's passes, as `recover.precision`; its weights, its losses and AdamW stay in
    float32. bf16 is the fastest."""
    test_every: PositiveInt | None = None
    """Epochs between two tests of a student, for its curve, for example 10. Default: a fifth of them. The
    headline is always the test after the last epoch."""

    def epochs_between_tests(self, num_epochs: int) -> int:
        """Return the epochs between two tests of a student that is trained for `num_epochs`."""
        return self.test_every or max(1, -(-num_epochs // _NUM_TESTS))

    @field_validator("protocol")
    @classmethod
    def _check_protocol(cls, name: str) -> str:
        if name not in PROTOCOLS:
            raise ValueError(f"{name!r} is not a protocol; set one of {', '.join(PROTOCOLS)}")
        return name

    @model_validator(mode="after")
    def _check_full_data(self) -> Self:
        if self.train_on == "full-data" and self.labels != "hard":
            raise ValueError(
                "train_on = full-data needs labels = hard, because the real images have no soft labels; set "
                "labels to hard"
            )
        if self.train_on == "full-data" and self.image_sets is not None:
            raise ValueError(
                "train_on = full-data trains on no image set, so image_sets has no effect; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        if self.marginal == "renormalise" and self.loss != "kl" and self.labels == "soft":
            raise ValueError(
                "marginal = renormalise needs loss = kl, because a mean squared error compares logits and no "
                "probabilities; set loss to kl or marginal to smooth"
            )
        if self.temperature_schedule != "constant" and self.temperature_min > self.temperature:
            raise ValueError(
                f"temperature_min = {self.temperature_min} is above temperature = {self.temperature}; a "
                "schedule goes down"
            )
        return self


class AnalyzeConfig(Section):
    """Measures of the images themselves."""

    verifiers: tuple[str, ...] = ()
    """Names of teachers of the pool that only judge the images. They neither supervise nor label; their
    accuracy on the images is reported."""
    feature_teacher: str | None = None
    """Name of the teacher whose penultimate features give the intra-class cosine similarity. Default: the
    first verifier, or the primary if there is none."""
