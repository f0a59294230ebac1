"""The money of a thousand impressions: what a bundle holds of it and what a replica asks."""
