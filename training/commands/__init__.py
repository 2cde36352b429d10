"""The command line, one module a verb: its settings (a frozen dataclass, whose field docstrings are the help) and `main(argv)`."""
