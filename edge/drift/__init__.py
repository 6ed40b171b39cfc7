"""Whether a model still sees and says what it did on held-out data: counted on the device, told as sketches."""
