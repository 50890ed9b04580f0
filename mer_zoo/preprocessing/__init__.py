"""From raw frames or published flow to what a network eats: functions on arrays."""
