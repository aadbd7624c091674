"""The dataset on disk: manifest, shards, splits; written, read and verified."""
