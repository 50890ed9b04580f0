"""From raw frames or published flow to what a network eats: functions on arrays."""

from mer_zoo.preprocessing import apex, faces, flow, magnify, temporal

__all__ = ["apex", "faces", "flow", "magnify", "temporal"]
