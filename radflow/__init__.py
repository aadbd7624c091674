"""radflow: MLflow-tracked, Horovod-distributed training of radiology classifiers."""
