"""Stands in for the interpreter's package in a worker process whose PYTHONPATH begins with the folder above."""
