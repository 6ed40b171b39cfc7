"""The whole loop in one command: the real programs as child processes, driven and shown."""
