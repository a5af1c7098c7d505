"""Views that label files leave out (relabel.view_parameters: drawn), drawn again as relabel drew them."""

from dataclasses import dataclass

from prism_ray.parts.views import Views, draw_views
from prism_ray.plan import Plan
from prism_ray.stages.relabel import RelabelUnit


@dataclass(frozen=True)
class DrawnViews:
    """The views of every epoch of a plan's relabel units."""

    plan: Plan

    def of(self, unit_id: str, epoch: int) -> Views:
        """Return the views of a unit's group in one epoch; raises ValueError if the plan has no such unit."""
        unit = self.plan.find(unit_id)
        if not isinstance(unit, RelabelUnit):
            raise ValueError(f"{unit_id} is not a unit of this run, so its views cannot be drawn again")
        config = self.plan.config
        slots = list(self.plan.formation(unit.image_set).group_slots(unit.group))
        return draw_views(slots, epoch, unit.seed, config.relabel, config.data.image_size)
