"""From catalogues to semantic IDs: embeddings, quantizers, the SID index and its quality."""
