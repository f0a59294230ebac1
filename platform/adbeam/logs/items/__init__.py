"""Which row of a catalogue stands for an item."""
