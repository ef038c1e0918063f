"""What training, evaluation and prediction share: the device, batches on it, and the forward pass."""
