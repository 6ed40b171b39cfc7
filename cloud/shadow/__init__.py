"""Challengers beside the devices' champions: who runs which, and how they compare."""
