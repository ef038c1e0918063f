"""What an image is about, told by several attributes of its file: one fact a file, its witnesses in order.
The table is in docs/data.md."""
