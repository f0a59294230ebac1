"""What a replica learns of the processor under it: time off it, pressure, steal."""
