"""Co-occurrence learning: Swing neighbours of the training events teach a projection of the content vectors."""
