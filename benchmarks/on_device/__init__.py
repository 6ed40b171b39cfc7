"""Inference on the device, measured: the models, the bare interpreter, the load."""
