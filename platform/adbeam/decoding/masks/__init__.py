"""What a request may see: allow masks along the trie, and the constraint of a batch."""
