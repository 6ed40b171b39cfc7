"""Frames become results: preprocessing, interpreter, golden vectors, sources."""
