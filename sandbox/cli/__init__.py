"""The command line: docker's, one file per command.

`commands.py` is the static table (name → module, summary, where it runs). A command's module
defines `COMMAND`, a `parser.Command`: options as data, and a function `run(arguments, context)`
that returns the exit code. Parsing, `--help`, completion and the documentation come from that data
alone; only the module of the command that was asked for is imported.
"""
