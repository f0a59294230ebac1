"""What the model is told by a log: declared features read from its columns, fitted on its training split, as codes."""
