"""Devices: who they are, what they run, what they shall run, and what they have proved."""
