"""What a run will do, and what its results depend on: Plan, scopes, plan versions. Pure."""

from prism_ray.plan.plan import Plan

__all__ = ["Plan"]
