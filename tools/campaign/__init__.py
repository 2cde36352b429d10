"""`python run.py campaign`: bad input, kills and long use, seeded and resumable, with oracles that can fail.

`inputs.py` has the kinds of bad input and judges each outcome, `worker.py` runs them in a process that may hang or die, `kills.py`
ends writers and trainings at random times, `long_use.py` queues portraits in a real server, `campaign.py` counts it all.
"""
