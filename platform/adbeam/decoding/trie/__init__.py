"""The trie of live semantic IDs: CSR levels, updates between two decodes, paths."""

from adbeam.imports.moved import names_of

__getattr__ = names_of("adbeam.decoding.trie", "adbeam.decoding.trie.trie")
