"""What this device says of itself: reported state, presence, telemetry, and its status to people on the device."""
