"""The loss of one step: the terms of the drawn teachers, and the method's own terms.

    L = CE + r_bn * sum over m in S of v_m u_m R_m + own terms
    CE = cross-entropy of the primary, or sum over m in S of v_m * cross-entropy of m

v_m are the votes, 1 / |S| each or by prior accuracy; u_m are the user's statistics.teacher_weights. PRISM is
the first form of CE with equal votes (arXiv 2511.09905); SRe2L is S = {primary}; CV-DD (arXiv 2501.07575) has
votes by accuracy.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from prism_ray.errors import ConfigError
from prism_ray.methods import find_method
from prism_ray.recover.densify import densification
from prism_ray.recover.frozen import lean
from prism_ray.recover.recompute import recomputed, segmented
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.statistics import StatisticsAlignment
from prism_ray.sealed import under
from prism_ray.teachers.layers import TeacherReference
from prism_ray.teachers.precision import passes, prepared
from prism_ray.teachers.teacher import Teacher, prior_shares


@dataclass(frozen=True)
class Losses:
    """The terms of one step, scalar tensors on the device."""

    total: Tensor
    ce: Tensor
    bn: Tensor  # mean of R_m, weighted by the votes
    alignments: dict[str, Tensor]  # teacher -> R_m, unweighted
    terms: dict[str, Tensor] = field(default_factory=dict)  # densification, and the method's own terms

    def detached(self) -> "Losses":
        """Return the same values without their graph."""
        return Losses(
            self.total.detach(),
            self.ce.detach(),
            self.bn.detach(),
            {name: term.detach() for name, term in self.alignments.items()},
            {name: term.detach() for name, term in self.terms.items()},
        )


class Objective:
    """The loss of a batch. A context manager, because it takes over layers of the networks.

    The backward pass belongs inside too: with `setting.recompute` it runs the networks again.
    """

    def __init__(self, setting: RecoverSetting) -> None:
        self._setting = setting
        config = setting.config
        self._alignments: dict[str, StatisticsAlignment] = {}
        for name in setting.unit.teachers:
            network, reference = setting.teachers[name].network, setting.references.get(name)
            self._alignments[name] = StatisticsAlignment(
                network, config.statistics, reference or TeacherReference(), setting.patch_size
            )
        method = find_method(config.method)
        assert method is not None
        self._terms: dict[str, Callable[[Tensor], Tensor]] = dict(method.terms(setting))
        weight = config.densification_weight
        if weight > 0.0:
            self._terms["densification"] = lambda x: weight * densification(x, self._classes)
        self._votes = {draw: _votes(setting, draw) for draw in dict.fromkeys(setting.unit.draws)}
        self._stack = ExitStack()
        self.join(len(setting.labels))

    def __enter__(self) -> Self:
        setting, space, size = self._setting, self._setting.space, self._setting.image_size
        names = dict.fromkeys(name for draw in self._votes for name in self._teachers_of(draw))
        with ExitStack() as stack:
            networks = [setting.teachers[name].network for name in names]
            stack.enter_context(prepared(networks, setting.config.precision))
            stack.enter_context(lean(networks))
            for alignment in self._alignments.values():
                stack.enter_context(alignment)
            if setting.recompute:
                image = space.mean.new_zeros(1, len(space.mean), size, size)
                for name in names:
                    teacher, own = setting.teachers[name], self._alignments.get(name)
                    if own is not None:
                        own.active = False
                    with self._passes():
                        stack.enter_context(segmented(teacher.network, space.to_teacher(image, teacher)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of `Losses.terms`."""
        return tuple(self._terms)

    def join(self, count: int) -> None:
        """Set the number of images that take part: the next ones are the first `count` of the batch."""
        self._labels = self._setting.labels[:count]
        self._classes = [torch.nonzero(self._labels == label)[:, 0] for label in torch.unique(self._labels)]
        for alignment in self._alignments.values():
            alignment.set_labels(self._labels)

    def state(self) -> dict[str, Tensor]:
        """Return the part of the objective that depends on earlier steps: each teacher's moving averages."""
        return {
            f"{name}/{key}": value
            for name, alignment in self._alignments.items()
            for key, value in alignment.state().items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what `state` returned."""
        for name, alignment in self._alignments.items():
            alignment.restore(under(state, f"{name}/"))

    def _classifiers(self, draw: tuple[str, ...]) -> tuple[str, ...]:
        return draw if self._setting.config.selection.logits == "drawn" else (self._setting.config.primary,)

    def _teachers_of(self, draw: tuple[str, ...]) -> list[str]:
        """Return the teachers that run under a draw, in the order in which they run."""
        return list(dict.fromkeys([*self._classifiers(draw), *draw]))

    def __call__(self, x: Tensor, draw: tuple[str, ...]) -> Losses:
        """Return the losses of augmented images x (B, channels, H, W; reference space) for a draw."""
        setting, votes = self._setting, self._votes[draw]
        classifiers, names = self._classifiers(draw), self._teachers_of(draw)
        alignments: dict[str, Tensor] = {}
        ce, bn, weighted = x.new_zeros(()), x.new_zeros(()), x.new_zeros(())
        for name in names:
            teacher, alignment = setting.teachers[name], self._alignments.get(name)
            if alignment is not None:
                alignment.active = name in draw
            # The backward pass begins with the last teacher: running it as a whole again would save nothing.
            as_a_whole = setting.recompute and name != names[-1]
            logits = recomputed(self._ask, teacher, x) if as_a_whole else self._ask(teacher, x)
            if name in classifiers:
                share = votes[name] if classifiers is draw else 1.0
                ce = ce + share * F.cross_entropy(logits, teacher.output_labels(self._labels))
            if name in draw:
                assert alignment is not None
                alignments[name] = alignment.pop()
                bn = bn + votes[name] * alignments[name]
                own = setting.config.statistics.teacher_weights.get(name, 1.0)
                weighted = weighted + votes[name] * own * alignments[name]
        total = ce + setting.config.bn_weight * weighted
        terms = {name: term(x) for name, term in self._terms.items()}
        for value in terms.values():
            total = total + value
        return Losses(total, ce, bn, alignments, terms)

    def _ask(self, teacher: Teacher, x: Tensor) -> Tensor:
        """Return a teacher's logits (B, outputs), at least float32."""
        with self._passes():
            logits: Tensor = teacher.network(self._setting.space.to_teacher(x, teacher))
        return logits.float() if logits.dtype == torch.bfloat16 else logits

    def _passes(self) -> AbstractContextManager[object]:
        return passes(self._setting.config.precision, self._setting.device)


def _votes(setting: RecoverSetting, draw: tuple[str, ...]) -> dict[str, float]:
    """Return the votes v_m of a draw; they sum to 1."""
    selection = setting.config.selection
    if selection.votes == "equal":
        return dict.fromkeys(draw, 1.0 / len(draw))
    missing = [name for name in draw if name not in setting.priors]
    if missing:
        raise ConfigError(
            f"recover.selection.votes = 'prior': the accuracy of {', '.join(missing)} is not known; "
            "give it in recover.selection.priors, in percent"
        )
    shares = prior_shares([setting.priors[name] for name in draw], selection.prior_temperature)
    return dict(zip(draw, shares.tolist(), strict=True))
