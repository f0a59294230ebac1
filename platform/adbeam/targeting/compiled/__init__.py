"""Rules of many ads as bitmaps: which of them a request may be shown."""
