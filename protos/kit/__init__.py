"""What both ends must do alike, byte for byte: envelopes, columns, the session with a broker, durable files, logs,
settings, child processes. It holds no decision of either side."""
