"""The world around Littoral, simulated: sensors, faults, and the demo that drives the whole loop."""
