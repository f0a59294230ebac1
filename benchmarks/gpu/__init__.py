"""The decoding engine on a GPU."""
