"""What a run leaves, as frozen types: what passes between rooms, or lies in a file that another room reads.

One file a kind, each written and read by form.py alone. tests/common/results freezes the keys and their
order.
"""
