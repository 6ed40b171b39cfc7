"""What a person on the device can do: look at it, try its model, have it go back, have it examined."""
