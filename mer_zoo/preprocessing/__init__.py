"""From raw frames or published flow to what a network eats: functions on arrays."""

from mer_zoo.preprocessing import flow, temporal

__all__ = ["flow", "temporal"]
