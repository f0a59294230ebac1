"""Event and request logs, and what is done with feedback."""
