"""Rules of whole answers: at most so many ads of one kind in a list, and so many impressions of one to a user."""
