"""What a method is: a name, its published settings, and what it adds to the engine. No torch here."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from torch import Tensor


class Setting(Protocol):
    """What a method's terms may look at: the batch that is recovered (prism_ray.recover.setting)."""

    @property
    def config(self) -> Any:
        """The image set's RecoverConfig; `config.options` are the method's own settings."""

    @property
    def labels(self) -> "Tensor":
        """Classes (B,) of the batch's images; x holds the first of them while the others have not joined."""

    @property
    def teachers(self) -> Mapping[str, Any]:
        """The batch's teachers by name (prism_ray.teachers.teacher.Teacher)."""

    @property
    def space(self) -> Any:
        """The reference space of the pixels, and the way to each teacher's input."""

    @property
    def image_size(self) -> int:
        """Pixels of a side."""


class Method:
    """A way to make an image set. Subclass it, fill in the class attributes, register the class.

    Most methods are a preset: values of `recover.*` that differ from the defaults, which are PRISM's.
    A method with a loss term of its own gives it in `terms`. docs/methods.md shows one from end to end.
    """

    name: ClassVar[str]
    title: ClassVar[str]  # as its authors write it
    source: ClassVar[str]  # where the settings come from
    protocol: ClassVar[str] = "prism"  # the evaluation protocol that it was published with
    preset: ClassVar[Mapping[str, Any]] = {}
    optimises: ClassVar[bool] = True  # False: the images are the initial ones, real and unchanged
    options: ClassVar[type[BaseModel] | None] = None  # model of `recover.options`, if it takes any

    def terms(self, setting: Setting) -> "Mapping[str, Callable[[Tensor], Tensor]]":
        """Return the method's own loss terms by name, weights included.

        Each maps the augmented images x' (B, channels, H, W; in the reference space, see
        `setting.space`) to a scalar that is added to the loss. Called once per batch, on the actor.
        """
        return {}

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise ValueError if `options` is not what the method takes."""
        if cls.options is None:
            if options:
                raise ValueError(f"method {cls.name} takes no options, got {', '.join(options)}")
            return
        try:
            cls.options.model_validate(dict(options))
        except ValidationError as error:  # as it is, it would lose its place when another model passes it on
            complaints = [
                f"{'.'.join(map(str, ('options', *detail['loc'])))} = {detail['input']!r}: {detail['msg']}"
                for detail in error.errors(include_url=False)
            ]
            raise ValueError(f"method {cls.name}: {'; '.join(complaints)}") from None
