"""Budgets of campaigns: what they may spend in a day and in all, what they have spent, and who is paused for it."""
