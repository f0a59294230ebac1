"""List rules and frequency caps where answers are made, and why ads were left out."""
