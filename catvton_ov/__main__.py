"""`python -m catvton_ov`."""

import sys

from catvton_ov.cli import main

sys.exit(main())
