"""The project's own error."""


class UserError(ValueError):
    """Something the person who runs this can mend: its message is one sentence for them.

    The command line prints it and ends with exit code 2; ComfyUI shows it at the node.
    """
