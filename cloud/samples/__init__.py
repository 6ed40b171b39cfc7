"""Samples: which frames devices shall send, and those that they sent."""
