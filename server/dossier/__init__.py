"""What a review board asks for, filled from a run's facts as far as they are known."""
