"""What every room of the cloud stands on: settings, database, embedded broker, what the commands share."""
