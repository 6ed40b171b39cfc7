"""A challenger beside the champion: on the same frames, at a share of the load, for comparison only."""
