"""From raw images to batches on the device."""
