"""From image archives to batches: readers, decoding, the dataset on disk, phantoms."""
