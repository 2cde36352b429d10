"""The process in which bad input is run: it reads a case's number a line and answers with the outcome, and may hang or die.

`python -m icportrait.tools.campaign.worker KIND [plant]`
"""

import json
import os
import sys


def main() -> None:
    """Answer until the input ends."""
    from ...training.core.comfy_runtime import start_comfy

    kind, planted = sys.argv[1], sys.argv[2:] == ["plant"]
    answers = os.fdopen(os.dup(1), "w")  # nothing else may write into the answers
    os.dup2(2, 1)
    start_comfy(cpu=True)
    from . import inputs

    if planted:
        inputs.plant(kind, setattr)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(inputs.outcome(kind, int(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
