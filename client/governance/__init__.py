"""What a hospital allows, checks and writes down: everything enters and leaves a site through `gate.py`."""
