"""What happened on the devices and a person may want to know later."""
