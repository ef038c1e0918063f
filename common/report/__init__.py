"""The pages that people read, from the types of common/results. From numbers alone: no image is here."""
