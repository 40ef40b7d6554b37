"""``python -m fedlight.cli``."""

import sys

from fedlight.cli.entry import main

sys.exit(main())
