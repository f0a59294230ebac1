"""The table of users: what is known of them, and from when on."""
