"""Rollouts: which devices get a model version, in which waves, and on what proof they go on or go back."""
