"""The foundation as a network: towers of users and items, and the tower where they mix."""
