"""How good results are: `python -m catvton_ov evaluate`.

matching.py   which result belongs to which truth, and the size they are compared at
networks.py   LPIPS, FID and KID; the only place here that knows torch
scores.py     all of it together
report.py     a page about it
command.py    the command line
"""
