"""Results leave the device: a durable outbox and the stream that empties it into the cloud."""
