"""Data becomes a model: trained, quantised, judged with the edge's own code, published to the registry."""
