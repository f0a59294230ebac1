"""How an item becomes a vector: words, Hugging Face models, and the behaviour of those who met it."""
