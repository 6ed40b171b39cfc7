"""Whether models still see and say on the devices what they did on held-out data."""
