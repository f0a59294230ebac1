"""What operators ask: what is wrong here, what runs, how many machines, what it stands on and what is weak in it."""
