"""Co-occurrence learning: Swing neighbours of the training events teach a projection of the content vectors."""

from adbeam.imports.moved import names_of

__getattr__ = names_of("adbeam.tokens.cooccurrence", "adbeam.tokens.cooccurrence.projection")
