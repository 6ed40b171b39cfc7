"""What happened on the device, once each: a journal that the uplink empties into the cloud."""
