"""A trained model, used at the hospital: predictions, and why the model says what it says (explain/)."""
