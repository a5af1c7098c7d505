"""The base class of all methods: a name, published settings, and own loss terms. No torch here."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ValidationError

from prism_ray.wording import problem_of

if TYPE_CHECKING:
    from torch import Tensor


class Setting(Protocol):
    """The input of a method's terms: the batch that is recovered (prism_ray.recover.setting)."""

    @property
    def config(self) -> Any:
        """RecoverConfig of the image set. `config.options` has the method's own settings."""

    @property
    def labels(self) -> "Tensor":
        """Classes (B,) of the batch's images. In DELT, x has only the first ones until the others join."""

    @property
    def teachers(self) -> Mapping[str, Any]:
        """Teachers of the batch by name (prism_ray.teachers.teacher.Teacher)."""

    @property
    def space(self) -> Any:
        """Reference space of the pixels, with the conversion to each teacher's input."""

    @property
    def image_size(self) -> int:
        """Height and width of an image in pixels."""


class Method:
    """A method to make an image set. A new one is a registered subclass with its own class attributes.

    Most methods are only a preset: values of `recover.*` that differ from the defaults, which are PRISM's. A
    method with its own loss term overrides `terms`. docs/methods.md has a complete example.
    """

    name: ClassVar[str]
    title: ClassVar[str]  # as its authors write the name
    source: ClassVar[str]  # source of the settings
    protocol: ClassVar[str] = "prism"  # evaluation protocol of the publication
    preset: ClassVar[Mapping[str, Any]] = {}
    optimises: ClassVar[bool] = True  # False: the images are the initial real images, unchanged
    options: ClassVar[type[BaseModel] | None] = None  # model of `recover.options`, if there are any

    def terms(self, setting: Setting) -> "Mapping[str, Callable[[Tensor], Tensor]]":
        """Return the method's own loss terms by name, with their weights applied.

        Each term maps the augmented images x' (B, channels, H, W; in the reference space, see
        `setting.space`) to a scalar that is added to the loss. Called once per batch, on the actor.
        """
        return {}

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise ValueError if `options` are not valid for the method."""
        if cls.options is None:
            if options:
                raise ValueError(f"method {cls.name} takes no options, got {', '.join(options)}; remove them")
            return
        try:
            cls.options.model_validate(dict(options))
        except ValidationError as error:  # passed on by another model, it would lose its location
            complaints = []
            for detail in error.errors(include_url=False):
                key = ".".join(map(str, ("options", *detail["loc"])))
                complaints.append(f"{key} = {detail['input']!r}: {problem_of(detail)}")
            raise ValueError(f"method {cls.name}: {'; '.join(complaints)}") from None
