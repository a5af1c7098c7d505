"""Sweeps: many runs that differ in a few keys, side by side on one pool, with shared parts and one table."""
