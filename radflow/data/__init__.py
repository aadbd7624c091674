"""Image archives become batches: readers, decoding, the dataset on disk, phantoms."""
