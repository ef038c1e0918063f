"""The program, whose tree of a hundred commands is built once a process: Typer builds it at each call."""

import functools

import typer.main

from pneumofed.cli import app, main

__all__ = ["main"]
typer.main.get_command = functools.cache(typer.main.get_command)
typer.main.get_command(app)
