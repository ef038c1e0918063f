"""The `pneumofed` command. Imports all rooms; no room imports it."""
