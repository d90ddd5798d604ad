"""The command line: `open360`. The only package that imports click."""
