"""An exchange's side of the bid endpoint: a catalogue with creatives, cases with their right answers."""
