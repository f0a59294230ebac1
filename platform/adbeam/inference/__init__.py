"""From a bundle to ads: the one place where model, trie, index and decoder come together."""
