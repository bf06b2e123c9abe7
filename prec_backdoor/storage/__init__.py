"""What lies on disk: workdirs and checkpoints."""
