"""The units of a run, and the settings that its results depend on: Plan, scopes, plan versions. Pure."""

from prism_ray.plan.plan import Plan

__all__ = ["Plan"]
