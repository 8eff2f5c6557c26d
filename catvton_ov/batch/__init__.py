"""Many try-ons in one run that survives being stopped: `python -m catvton_ov batch`.

pairs.py, datasets.py   what to try on: a table, or a published data set  -> rows
plan.py                 what identifies a result, and the order of work   -> tasks
worker.py               one try-on, with what it shares with others remembered
ledger.py               what is done, and results written whole or not at all
run.py                  from tasks to files, here or (on_ray.py) on a cluster
command.py              the command line
"""
