"""Why a model says what it says: which visits (when.py), which regions (where.py), and how far to believe it
(trust.py)."""
