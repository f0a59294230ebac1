"""What a catalogue says of its ads beside the contract: their targeting rules."""
