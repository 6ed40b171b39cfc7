"""The models on this device: two places, of which one holds the committed model, whatever happens to the other."""
