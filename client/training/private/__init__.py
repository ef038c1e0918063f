"""DP-SGD whose unit is the patient: exact per-patient clipping in one backward pass, noise, and the account
of both."""
