"""Everything that may see an image. Runs in the hospital."""
