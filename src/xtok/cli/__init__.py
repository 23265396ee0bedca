"""The `xtok` command: one thin module a sub-command."""
