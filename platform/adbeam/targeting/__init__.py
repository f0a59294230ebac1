"""Whom an ad is for: rules of ads over what a request tells, checked once and compiled to bitmaps."""
