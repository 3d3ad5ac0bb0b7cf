"""The fire drill: simulated providers, outages on purpose, and the count of every job after it."""
