"""Training and evaluating the shared model on one hospital's cohort."""
