"""What requests tell and who may see an ad: costs and legality."""
